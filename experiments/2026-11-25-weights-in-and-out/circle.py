"""The full circle: weights from timm, here and back, and what each runtime says of the same photographs.

    circle.py PROGRAM PHOTOGRAPHS SCRATCH

1. timm's networks as safetensors, as PyTorch's zip and old files, nested and prefixed: imported, and compared with timm.
2. Three of them are fine-tuned for a few steps on the photographs' classes and exported; timm (strictly), onnxruntime and tract say
   what they see on 100 photographs.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
import safetensors.torch
import timm
import torch

from common import as_png, compared, ghostnet, inputs, network, photographs, predictions, scores


def save_all(model, folder, name):
    state = model.state_dict()
    prefixed = {f"module.{key}": value for key, value in state.items()}
    nested = {"epoch": 3, "arch": name, "state_dict": prefixed, "optimizer": {"state": {}, "param_groups": []}}
    files = {kind: folder / f"{name}_{kind}" for kind in ["plain.safetensors", "zip.pth", "legacy.pth", "nested.pth"]}
    safetensors.torch.save_file(state, files["plain.safetensors"])
    torch.save(state, files["zip.pth"])
    torch.save(state, files["legacy.pth"], _use_new_zipfile_serialization=False)
    torch.save(nested, files["nested.pth"])
    return files


def ours(program, model, images, num_classes, *args):
    found = predictions(program, model, images, *args)
    return np.array([[scores[f"class {label}"] for label in range(num_classes)] for scores in found], np.float32)


FILES = ["ghostnet_050", "ghostnet_100", "ghostnet_130", "ghostnetv2_100", "ghostnetv3_100"]
TUNED = ["ghostnet_100", "ghostnetv2_100", "ghostnetv3_100"]


def tuned(program, photos, scratch, pngs, name):
    """Fine-tunes, exports, and asks every reader."""
    recipe = ["--config", "finetune.toml", "--data", photos, "--weights", scratch / f"{name}_plain.safetensors"]
    short = [f"model.variant={name.split('_')[0]}", "train.total={epochs=3}", "train.shortest={steps=1}", "finetune.head_warmup={epochs=1}", "eval.patience=3"]
    ghostnet(program, "train", *recipe, "--out", scratch / "run", "--fresh", *[arg for key in short for arg in ("--set", key)])
    run = scratch / "run"
    ghostnet(program, "export", run, scratch / "tuned.safetensors")
    ghostnet(program, "export", run, scratch / "tuned.onnx")
    ghostnet(program, "export", run, scratch / "pictures.onnx", "--with-preprocessing")

    card = json.loads(ghostnet(program, "inspect", run, "--format", "json"))["card"]
    classes = card["classes"]
    as_row = lambda found: np.array([[scores[name] for name in classes] for scores in found], np.float32)
    expected = as_row(predictions(program, run, pngs))

    model = timm.create_model(name, num_classes=len(classes))
    model.load_state_dict(safetensors.torch.load_file(scratch / "tuned.safetensors"), strict=True)
    model.eval()
    size, mean, std = card["image_size"], card["normalization"]["mean"], card["normalization"]["std"]
    (transform,) = card["transforms"]
    crop = transform["resize_center_crop"]
    config = {"input_size": (3, size, size), "mean": mean, "std": std, "crop_pct": crop["crop_pct"]}
    prepare = timm.data.create_transform(**config, interpolation=crop["interpolation"])
    from PIL import Image

    images = [prepare(Image.open(file).convert("RGB"))[None] for file in pngs]
    results = {"timm, strictly loaded": scores(model, images)}

    onnx.checker.check_model(onnx.load(scratch / "tuned.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(scratch / "tuned.onnx", providers=["CPUExecutionProvider"])
    results["onnxruntime"] = np.concatenate([session.run(None, {"images": image.numpy()})[0] for image in images])
    results["tract"] = as_row(predictions(program, scratch / "tuned.onnx", pngs))
    results["safetensors alone"] = as_row(predictions(program, scratch / "tuned.safetensors", pngs))
    for reader, found in results.items():
        difference, same = compared(f"{name}, {reader}", found, expected)
        assert difference <= 1e-4 and same == len(pngs), (name, reader)

    session = onnxruntime.InferenceSession(scratch / "pictures.onnx", providers=["CPUExecutionProvider"])
    pictures = [np.asarray(Image.open(file).convert("RGB"))[None] for file in pngs]
    found = np.concatenate([session.run(None, {"pictures": levels})[0] for levels in pictures])
    compared(f"{name}, onnxruntime, preprocessing in the graph", found, expected)
    compared(f"{name}, tract, preprocessing in the graph", as_row(predictions(program, scratch / "pictures.onnx", pngs[:20])), expected[:20])


def main(program, photos, scratch):
    scratch = pathlib.Path(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    files = photographs(photos)
    pngs = as_png(files, scratch / "png")
    print("| file of timm | largest difference of a score | largest score | same class |\n|---|---|---|---|")
    for name in FILES:
        model = network(name)
        expected = scores(model, inputs(model, pngs[:20]))
        for kind, file in save_all(model, scratch, name).items():
            found = ours(program, file, pngs[:20], 1000)
            difference, same = compared(f"{name}, {kind}", found, expected)
            assert difference <= 1e-4 and same == 20

    print("\n| after fine-tuning | largest difference of a score | largest score | same class |\n|---|---|---|---|")
    for name in TUNED:
        tuned(program, photos, scratch, pngs, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
