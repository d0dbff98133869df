"""Classifies images with a file from `ghostnet export RUN model.onnx`, as `ghostnet predict RUN IMAGE...` does.

    pip install numpy onnxruntime "pillow>=13"
    python predict_onnx.py model.onnx IMAGE...
"""

import json
import math
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
metadata = session.get_modelmeta().custom_metadata_map
classes, preprocessing = json.loads(metadata["classes"]), json.loads(metadata["preprocessing"])
# One probability for each class if the classes exclude each other, and otherwise a yes or no for each.
is_sigmoid = len(classes) == 1 or json.loads(metadata["ghostnet"]).get("independent_classes", False)


def prepare(path):
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    for transform in preprocessing["transforms"]:
        [(name, options)] = transform.items()
        size = options.get("size") or preprocessing["image_size"]
        if name in ("resize", "resize_center_crop"):
            shorter = math.floor(size / options.get("crop_pct", 1))
            sides = [shorter * side // min(image.size) for side in image.size]
            image = image.resize(sides, Image.Resampling[options["interpolation"].upper()])
        if name in ("center_crop", "resize_center_crop"):
            left, top = (round((side - size) / 2) if side > size else -((size - side) // 2) for side in image.size)
            image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, np.float32) / 255
    return ((pixels - np.float32(preprocessing["mean"])) / np.float32(preprocessing["std"])).transpose(2, 0, 1)[None]


for path in sys.argv[2:]:
    logits = session.run(["logits"], {"images": prepare(path)})[0][0]
    odds = np.exp(logits - logits.max())
    probabilities = 1 / (1 + np.exp(-logits)) if is_sigmoid else odds / odds.sum()
    best = probabilities.argmax()
    print(f"{path}\t{classes[best]}\t{probabilities[best]:.6f}")
