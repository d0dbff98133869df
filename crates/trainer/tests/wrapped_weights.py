"""Checkpoints as people make them with PyTorch and timm, through `ghostnet verify`, against the logits that PyTorch computes.

Outside of the gate: it needs `torch`, `timm` and `safetensors` (about 2 GB).

    cargo build -p trainer
    python crates/trainer/tests/wrapped_weights.py target/debug/ghostnet

Each row is a file, made by its rule, and the logits that it must give for the inputs of `ghostnet verify`. Weights and running statistics
are random, so that a tensor in the wrong place shows. It prints one line a row and ends with 1 if any differs.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv
from torch import nn

SHAPES = [(2, 3, 64, 64), (1, 3, 96, 160)]
CLASSES = 5
FEATURES = 1280


def rule_input(shape):
    """The input of a shape as `ghostnet verify` makes it: FNV-1a of its key, then SplitMix64."""
    mask = (1 << 64) - 1
    state = 0xCBF29CE484222325
    for byte in ("input_" + "x".join(map(str, shape))).encode():
        state = ((state ^ byte) * 0x100000001B3) & mask
    values = []
    for step in range(1, math.prod(shape) + 1):
        z = (state + step * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        values.append(((z ^ (z >> 31)) >> 40) / (1 << 24) * 2 - 1)
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def network(name, seed, num_classes=CLASSES, in_chans=3):
    """A network whose running statistics are not those of a fresh one."""
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=num_classes, in_chans=in_chans)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


class WithHead(nn.Module):
    """A backbone without a classifier, and a head beside it."""

    def __init__(self, backbone, head):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images):
        return self.head(self.backbone(images))


def prefixed(state, prefix):
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())


def rows(folder):
    """(file, the function of the images that it must be, further arguments)."""
    for name in ["ghostnet_050", "ghostnet_100", "ghostnetv2_100", "ghostnetv3_100"]:
        model = network(name, 1)
        state = model.state_dict()
        other = network(name, 2).state_dict()

        def saved(file, value, model=model, args=(), name=name):
            path = folder / f"{name}_{file}"
            torch.save(value, path)
            return path, model, list(args)

        yield saved("plain.pth", state)
        yield saved("module.pth", prefixed(state, "module."))
        yield saved("compiled.pth", prefixed(state, "_orig_mod."))
        lightning = prefixed(state, "model.")
        lightning["criterion.weight"] = torch.full((CLASSES,), math.nan)
        yield saved("lightning.ckpt", {"epoch": 9, "state_dict": lightning, "loops": {}, "optimizer_states": [{"state": {}}]})
        yield saved("ema.pth", {"state_dict": other, "state_dict_ema": state})
        yield saved("student.pth", {"student": state, "teacher": other, "epoch": 4}, args=["--key", "student"])
        flat = prefixed(state, "student.")
        flat.update(prefixed(other, "teacher."))
        yield saved("flat.pth", {"state_dict": flat}, args=["--key", "student"])
        path = folder / f"{name}_flat.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in flat.items()}, path)
        yield path, model, ["--key", "student"]

        torch.manual_seed(3)
        for file, head in [
            ("linear_head.pth", nn.Linear(FEATURES, CLASSES)),
            ("sequential_head.pth", nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, CLASSES))),
        ]:
            whole = WithHead(network(name, 1, num_classes=0), head).eval()
            yield saved(file, whole.state_dict(), model=whole)
        whole = network(name, 1)
        whole.classifier = nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, CLASSES))
        yield saved("sequential.pth", whole.eval().state_dict(), model=whole.eval())
        apart = WithHead(network(name, 1, num_classes=0), nn.Linear(FEATURES, CLASSES)).eval()
        value = {"encoder": apart.backbone.state_dict(), "fc": apart.head.state_dict()}
        yield saved("apart.pth", value, model=apart)

        gray = network(name, 1, in_chans=1)
        yield saved("in1.pth", gray.state_dict(), model=lambda images, gray=gray: gray(images.mean(1, keepdim=True)))
        for channels in [4, 6]:
            wide = OrderedDict(state)
            wide["conv_stem.weight"] = adapt_input_conv(channels, state["conv_stem.weight"].clone())
            yield saved(f"in{channels}.pth", wide)

        shards = folder / f"{name}_shards"
        shards.mkdir()
        names = list(state)
        parts = [names[: len(names) // 3], names[len(names) // 3 :]]
        index = {"metadata": {"total_size": 0}, "weight_map": {}}
        for number, part in enumerate(parts, 1):
            file = f"model-{number:05}-of-{len(parts):05}.safetensors"
            save_file({key: state[key].contiguous() for key in part}, shards / file)
            index["weight_map"].update({key: file for key in part})
        (shards / "model.safetensors.index.json").write_text(json.dumps(index))
        yield shards, model, []


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "target/debug/ghostnet"
    inputs = [rule_input(shape) for shape in SHAPES]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for path, model, args in rows(folder):
            with torch.no_grad():
                logits = [model(images).tolist() for images in inputs]
            reference = folder / "reference.json"
            evaluations = [{"shape": shape, "logits": rows} for shape, rows in zip(SHAPES, logits)]
            reference.write_text(json.dumps({"eval": evaluations}))
            command = [program, "verify", str(path), "--against", str(reference), *args]
            result = subprocess.run(command, capture_output=True, text=True)
            agrees = result.returncode == 0
            failed += not agrees
            print(f"{'agrees ' if agrees else 'DIFFERS'} {path.name}")
            if not agrees:
                print(result.stdout + result.stderr)
    print(f"{failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
