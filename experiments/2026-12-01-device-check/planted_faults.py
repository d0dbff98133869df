#!/usr/bin/env python3
"""Plants faults at the border to burn's kernels, one after the other, and prints what the program says and what it does.

    planted_faults.py GHOSTNET DEVICE

GHOSTNET must be built with the feature `planted-faults`:

    cargo build -p trainer --no-default-features --features wgpu,fusion,planted-faults
"""

import json
import os
import subprocess
import sys
import tempfile

program, device = sys.argv[1:3]
SMALL = ["model.width=0.25", "data.image_size=48", "data.batch_size=8"]
FAULTS = [
    ("past-end@always@weight gradient", []),
    ("past-end@always@input gradient", []),
    ("past-end@always@product", []),
    ("transposed@always@1×1 convolution, 4 to 2", []),
    ("transposed@always@depthwise", []),
    ("half-sums@always@forward", []),
    ("half-sums@always@input gradient", []),
    ("stale@always@forward", []),
    ("zero-weight-gradient@always@depthwise", []),
    ("past-end@half@weight gradient", ["train.precision=mixed"]),
    ("transposed@half", ["train.precision=mixed"]),
    ("past-end@fused", []),
    ("stale@fused", []),
    ("past-end@without-own-kernels@forward", []),
]
for fault, sets in FAULTS:
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GHOSTNET_PLANTED_FAULT": fault, "XDG_CACHE_HOME": folder, "XDG_RUNTIME_DIR": folder}
        command = [program, "devices", "--check", device, "--config", "ghostnet_1x.toml"]
        command += [item for entry in SMALL + sets for item in ("--set", entry)]
        found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        kept = [os.path.join(folder, "ghostnet/device-checks", name) for name in os.listdir(os.path.join(folder, "ghostnet/device-checks"))]
        record = json.load(open(kept[0], encoding="utf-8"))
        first = record["attempts"][0]["result"]["faults"]
        changes = [line.split("the program now ")[1].split(", and checks")[0] for line in found.stderr.splitlines() if "the program now " in line]
        end = "an error: no way around" if found.returncode else "agrees with the CPU"
        print(f"| `{fault}` | {len(first)}: {first[0][:110]} | {'; '.join(changes)} | {end} |", flush=True)
