"""The row `smoothing` of the ablation in PyTorch with timm: the same network, data, augmentation, optimizer, schedule and number of
steps. Only the random numbers are others.

    pip install torch timm pillow numpy
    python pytorch_twin.py CIFAR10_FOLDER [--seeds 0 1 2] [--epochs 4]

`CIFAR10_FOLDER` holds `train/CLASS/*.jpg` and `test/CLASS/*.jpg`. A line of JSON for each epoch goes to standard output.
"""

import argparse
import json
import math
import pathlib
import time

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image

MEAN, STD = (0.4913, 0.4821, 0.4465), (0.2452, 0.2428, 0.2606)


def load(folder):
    images, labels = [], []
    for label, name in enumerate(sorted(path.name for path in folder.iterdir())):
        for path in sorted((folder / name).iterdir()):
            images.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def normalised(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    return ((images.float() - mean) / std).contiguous(memory_format=torch.channels_last)


def augmented(images, generator):
    """A black border of 4 pixels, a random square of 32, and every second image mirrored."""
    padded = F.pad(images, (4, 4, 4, 4))
    out = torch.empty_like(images)
    tops, lefts = (torch.randint(0, 9, (len(images),), generator=generator) for _ in range(2))
    flips = torch.rand(len(images), generator=generator) < 0.5
    for i in range(len(images)):
        crop = padded[i, :, tops[i] : tops[i] + 32, lefts[i] : lefts[i] + 32]
        out[i] = crop.flip(2) if flips[i] else crop
    return out


def rate(step, steps_per_epoch, epochs, base=0.1):
    warmup, total = steps_per_epoch // 2, steps_per_epoch * epochs
    if step < warmup:
        return base * step / warmup
    return 0.5 * base * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


@torch.no_grad()
def top1(model, images, labels):
    model.eval()
    right = sum(
        (model(normalised(images[i : i + 500])).argmax(1) == labels[i : i + 500]).sum().item()
        for i in range(0, len(images), 500)
    )
    return right / len(images)


def run(seed, epochs, train, test):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = timm.create_model("ghostnet_050", num_classes=10, drop_rate=0.2)
    model.conv_stem.stride = (1, 1)
    model = model.to(memory_format=torch.channels_last)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    images, labels = train
    steps_per_epoch, step, began = len(images) // 128, 0, time.time()
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        losses = 0.0
        for batch in order[: steps_per_epoch * 128].split(128):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, steps_per_epoch, epochs)
            inputs = normalised(augmented(images[batch], generator))
            loss = F.cross_entropy(model(inputs), labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item()
            step += 1
        found = {"seed": seed, "epoch": epoch + 1, "loss": losses / steps_per_epoch, "top1": top1(model, *test)}
        print(json.dumps(found | {"seconds": round(time.time() - began, 1)}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=4)
    arguments = parser.parse_args()
    train, test = (load(arguments.folder / part) for part in ("train", "test"))
    for seed in arguments.seeds:
        run(seed, arguments.epochs, train, test)


if __name__ == "__main__":
    main()
