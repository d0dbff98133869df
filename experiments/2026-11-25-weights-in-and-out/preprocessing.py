"""What the network sees of photographs, here and after timm's `create_transform`: JPEG decoding, resizing, cropping.

    preprocessing.py PROGRAM PHOTOGRAPHS SCRATCH
"""

import pathlib
import shutil
import sys

import numpy as np
import safetensors.torch
import timm
from PIL import Image

from common import ghostnet, network, photographs, predictions, scores


def main(program, photos, scratch):
    scratch = pathlib.Path(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    files = photographs(photos)
    model = network("ghostnet_100")
    safetensors.torch.save_file(model.state_dict(), scratch / "weights.safetensors")
    print("| interpolation | crop_pct | mean difference, levels | largest | levels that differ | largest difference of a score | of a largest score of |")
    print("|---|---|---|---|---|---|---|")
    for interpolation in ["bicubic", "bilinear"]:
        for crop_pct in [0.875, 1.0]:
            seen = scratch / f"{interpolation}_{crop_pct}"
            shutil.rmtree(seen, ignore_errors=True)
            flags = ["--interpolation", interpolation, "--crop-pct", crop_pct]
            ghostnet(program, "import", scratch / "weights.safetensors", "-o", scratch / "model.safetensors", *flags)
            found = predictions(program, scratch / "model.safetensors", files, "--inputs", seen)
            found = np.array([[guesses[f"class {label}"] for label in range(1000)] for guesses in found], np.float32)
            config = {"input_size": (3, 224, 224), "interpolation": interpolation, "crop_pct": crop_pct}
            prepare = timm.data.create_transform(**config, normalize=False)
            normalized = timm.data.create_transform(**config)
            pictures = [Image.open(file).convert("RGB") for file in files]
            levels = lambda image: np.asarray(image).astype(int)
            theirs = [levels(prepare(picture)).transpose(1, 2, 0) for picture in pictures]
            ours = [levels(Image.open(file)) for file in sorted(seen.iterdir())]
            difference = np.abs(np.array(ours) - np.array(theirs))
            expected = scores(model, [normalized(picture)[None] for picture in pictures])
            score = np.abs(found - expected).max()
            print(
                f"| {interpolation} | {crop_pct} | {difference.mean():.4f} | {difference.max()} | {(difference > 0).mean() * 100:.2f} % "
                f"| {score:.1e} | {np.abs(expected).max():.2f} |",
                flush=True,
            )
            assert difference.mean() <= 0.5


if __name__ == "__main__":
    main(*sys.argv[1:])
