"""Seconds from nothing to an answer: import of 5.2 million parameters, and one image classified from a cold start, beside Python with
timm. The two take turns.

    speed.py PROGRAM PHOTOGRAPH SCRATCH
"""

import pathlib
import statistics
import subprocess
import sys
import time

import safetensors.torch

from common import network

TURNS = 9

TIMM = """
import sys, timm, torch, safetensors.torch
from PIL import Image
model = timm.create_model("ghostnet_100")
model.load_state_dict(safetensors.torch.load_file(sys.argv[1]))
model.eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model))
with torch.inference_mode():
    scores = model(transform(Image.open(sys.argv[2]).convert("RGB"))[None]).softmax(1)[0]
print(scores.topk(5))
"""


def seconds(command):
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return time.perf_counter() - start


def main(program, photograph, scratch):
    scratch = pathlib.Path(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    weights, model = scratch / "weights.safetensors", scratch / "model.safetensors"
    safetensors.torch.save_file(network("ghostnet_100").state_dict(), weights)
    commands = {
        "`ghostnet import`": [program, "import", weights, "-o", model],
        "`ghostnet predict`, model file": [program, "predict", model, photograph, "--device", "cpu"],
        "`ghostnet predict`, timm's file": [program, "predict", weights, photograph, "--device", "cpu"],
        "Python with timm": [sys.executable, "-c", TIMM, weights, photograph],
    }
    times = {name: [] for name in commands}
    for turn in range(TURNS + 1):
        for name, command in commands.items():
            took = seconds(command)
            # The first turn reads the files from the disk.
            if turn > 0:
                times[name].append(took)
    print("| command | median, s | least, s | most, s |\n|---|---|---|---|")
    for name, took in times.items():
        print(f"| {name} | {statistics.median(took):.3f} | {min(took):.3f} | {max(took):.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
