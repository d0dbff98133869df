"""What the scripts of this folder share: the program, photographs, and timm's network with weights that are no initialisation."""

import json
import pathlib
import subprocess

import numpy as np
import timm
import torch
from PIL import Image

NUM_PHOTOGRAPHS = 100


def ghostnet(program, *args):
    """Runs the program; its stdout."""
    command = [program, *map(str, args)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def predictions(program, model, images, *args):
    """The scores of each image, in the order of the classes that timm knows: by number."""
    out = ghostnet(program, "predict", model, *images, "--top", 100000, "--format", "json", *args)
    return [{guess["class"]: guess["score"] for guess in prediction["guesses"]} for prediction in json.loads(out)]


def photographs(folder, count=NUM_PHOTOGRAPHS):
    """Files spread over a folder of class folders."""
    files = sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    assert len(files) >= count, f"{folder} has {len(files)} photographs, and {count} are needed"
    return [files[at * len(files) // count] for at in range(count)]


def as_png(files, folder):
    """The same pixels without JPEG in between: decoders of JPEG differ by a level here and there."""
    folder.mkdir(parents=True, exist_ok=True)
    copies = []
    for at, file in enumerate(files):
        copy = folder / f"{at:03}.png"
        Image.open(file).convert("RGB").save(copy, compress_level=1)
        copies.append(copy)
    return copies


def network(name, num_classes=1000, seed=0):
    """timm's network with random weights and the statistics of a few batches of noise, so that every layer does something."""
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=num_classes)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(8, 3, 96, 96))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    # Scores as large as those of a trained network.
    torch.nn.init.normal_(model.classifier.weight, std=0.3)
    return model.eval()


def inputs(model, files):
    """timm's own preparation, one image at a time."""
    config = timm.data.resolve_data_config({}, model=model)
    transform = timm.data.create_transform(**config)
    return [transform(Image.open(file).convert("RGB"))[None] for file in files]


def scores(model, images):
    with torch.inference_mode():
        return np.concatenate([model(image).numpy() for image in images])


def compared(name, found, expected):
    """A row of the table."""
    difference, largest = np.abs(found - expected).max(), np.abs(expected).max()
    same = int((found.argmax(1) == expected.argmax(1)).sum())
    print(f"| {name} | {difference:.1e} | {largest:.2f} | {same} of {len(expected)} |", flush=True)
    return difference, same
