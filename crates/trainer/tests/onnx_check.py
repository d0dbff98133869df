"""Checks a file with ONNX's own checker and runs it in onnxruntime.

    onnx_check.py scores MODEL.onnx REFERENCE.json            the scores of `ghostnet verify --write`, to a hundred-thousandth
    onnx_check.py pictures MODEL.onnx IMAGE...                the probabilities as JSON, from decoded pictures
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime


def session(path):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) and json.loads(metadata["preprocessing"])["image_size"], metadata
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def rule(shape):
    """2 u - 1, u from a hash of the input's name and the index."""
    mask = (1 << 64) - 1
    state = 0xCBF29CE484222325
    for byte in f"input_{'x'.join(map(str, shape))}".encode():
        state = (state ^ byte) * 0x100000001B3 & mask
    steps = np.arange(1, np.prod(shape) + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        z = np.uint64(state) + steps * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2**24 * 2 - 1).astype(np.float32).reshape(shape)


def scores(path, reference):
    model = session(path)
    (images,), (logits,) = model.get_inputs(), model.get_outputs()
    assert (images.name, logits.name) == ("images", "logits")
    entries = [entry for entry in json.load(open(reference))["eval"] if entry["shape"][2:] == images.shape[2:]]
    assert entries
    for entry in entries:
        batch = rule(entry["shape"])
        batches = [batch] if images.shape[0] == "batch" else [batch[at : at + 1] for at in range(len(batch))]
        found = np.concatenate([model.run(["logits"], {"images": batch})[0] for batch in batches])
        expected = np.array(entry["logits"])
        difference = np.abs(found - expected).max()
        assert difference <= 1e-5 * max(1, np.abs(expected).max()), difference


def pictures(path, *files):
    from PIL import Image

    model = session(path)
    for file in files:
        levels = np.asarray(Image.open(file).convert("RGB"))[None]
        (logits,) = model.run(["logits"], {"pictures": levels})
        exponentials = np.exp(logits[0] - logits[0].max())
        print(json.dumps((exponentials / exponentials.sum()).tolist()))


if __name__ == "__main__":
    {"scores": scores, "pictures": pictures}[sys.argv[1]](*sys.argv[2:])
