"""Writes `made/`: small files of every kind that PyTorch and Paddle write, and `made.json` with what must be read from them.

    python make.py          (PyTorch 2.15, NumPy 2)
"""

import argparse
import collections
import io
import json
import pathlib
import pickle
import zipfile

import numpy
import torch
from torch import nn

HERE = pathlib.Path(__file__).parent / "made"
EXPECTED = {}


def describe(state):
    tensors = {}
    for name, tensor in state.items():
        kind = "F32" if tensor.is_floating_point() else "I64"
        values = tensor.detach().to(torch.float64).flatten().tolist()
        tensors[name] = {"shape": list(tensor.shape), "kind": kind, "values": values}
    return tensors


def save(name, saved, state, key=None, notes=(), **options):
    torch.save(saved, HERE / name, **options)
    EXPECTED[name] = {"key": key, "tensors": describe(state), "notes": list(notes)}


def refused(name, saved, message, **options):
    torch.save(saved, HERE / name, **options)
    EXPECTED[name] = {"error": message}


def repack(source, name, swap=None, compression=zipfile.ZIP_STORED, root="archive/"):
    """The same file with its bytes swapped, compressed, or under another root."""
    with zipfile.ZipFile(HERE / source) as old, zipfile.ZipFile(HERE / name, "w", compression) as new:
        for entry in old.infolist():
            data, inner = old.read(entry), entry.filename.split("/", 1)[1]
            if swap and inner.startswith("data/"):
                data = numpy.frombuffer(data, dtype=f"u{swap}").byteswap().tobytes()
            if swap and inner == "byteorder":
                data = b"big"
            new.writestr(zipfile.ZipInfo(root + inner), data, compression)
    EXPECTED[name] = dict(EXPECTED[source])


HERE.mkdir(exist_ok=True)
torch.manual_seed(0)
base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7 - 0.5

kinds = {
    "bfloat16": base.bfloat16(), "float64": base.double() * (1 + 2**-30), "float16": base.half(),
    "float32": base.clone(), "int64": torch.tensor([-(2**62), 7]), "int32": torch.tensor([-5, 2**31 - 1], dtype=torch.int32),
    "int16": torch.tensor([-300, 300], dtype=torch.int16), "int8": torch.tensor([-128, 127], dtype=torch.int8),
    "uint8": torch.tensor([0, 255], dtype=torch.uint8), "bool": torch.tensor([True, False, True]),
}
save("kinds.pth", kinds, kinds, notes=["converted 1 tensors from bfloat16 to float32"])
save("kinds_legacy.pth", kinds, kinds, _use_new_zipfile_serialization=False)
save("kinds_protocol4.pth", kinds, kinds, pickle_protocol=4)
save("kinds_protocol5.pth", kinds, kinds, pickle_protocol=5)
unsigned = {"uint16": torch.tensor([1, 65535], dtype=torch.uint16), "uint32": torch.tensor([3, 2**32 - 1], dtype=torch.uint32)}
save("unsigned.pth", unsigned, unsigned)

shared = torch.arange(24, dtype=torch.float32)
views = {
    "transposed": shared.reshape(4, 6).t(), "columns": shared.reshape(4, 6)[:, 1:3], "steps": shared[5::4],
    "whole": shared, "scalar": shared[7], "expanded": shared[2:4].reshape(2, 1).expand(2, 3),
    "empty": torch.zeros(0, 3), "channels_last": torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "count": torch.tensor(9), "overlapping": shared.as_strided((3, 3), (1, 1)),
}
save("views.pth", views, views)
save("views_legacy.pth", views, views, _use_new_zipfile_serialization=False)

attributed, parameter = torch.ones(2), nn.Parameter(torch.full((2,), 4.0))
attributed.note, parameter.note = "mine", "mine"
dressed = {"a": nn.Parameter(base.clone()), "b": attributed, "c": parameter, "d": nn.Buffer(torch.ones(3)),
           "e": nn.Parameter(torch.zeros(1), requires_grad=False)}
save("parameters.pth", dressed, dressed)

# All of four bytes, so that swapping fours swaps them all.
floats = {name: tensor for name, tensor in views.items() if name != "count"}
save("floats.pth", floats, floats)
repack("floats.pth", "big_endian.pth", swap=4)
EXPECTED["big_endian.pth"]["notes"] = ["it was written on a machine with the other byte order"]
repack("floats.pth", "deflated.pth", compression=zipfile.ZIP_DEFLATED)
repack("floats.pth", "no_root.pth", root="")
(HERE / "floats.pth").unlink()
del EXPECTED["floats.pth"]

torch.serialization.set_crc32_options(False)
save("no_checksums.pth", {"a": base}, {"a": base})
torch.serialization.set_crc32_options(True)

model = nn.Sequential(collections.OrderedDict(conv=nn.Conv2d(1, 2, 2, bias=False), bn=nn.BatchNorm2d(2)))
save("state_dict.pth", model.state_dict(), model.state_dict())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
model(torch.randn(2, 1, 4, 4)).sum().backward()
optimizer.step()
schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60])
checkpoint = {
    "epoch": 3, "arch": "tiny", "model": model.state_dict(), "optimizer": optimizer.state_dict(),
    "lr_scheduler": schedule.state_dict(), "best": numpy.float64(71.25), "last": numpy.float32(0.5),
    "args": argparse.Namespace(lr=0.1, output=pathlib.PurePosixPath("runs/x"), nested=argparse.Namespace(a=(1, [2]))),
    "rng": torch.get_rng_state()[:8].clone(), "history": collections.defaultdict(list, loss=[0.5, 0.25]),
    "dtype": torch.float16, "device": torch.device("cpu"), "size": torch.Size([1, 2]), "set": {1, 2}, "raw": b"\x00\x01",
    "array": numpy.arange(3), "big": 2**80, "complex": 1j, "none": None, "slice": slice(1, 2), "text": "\u00e4\U0001f47b",
}
foreign = ["objects of other programs were not read: `argparse.Namespace`, `pathlib.PurePosixPath`"]
save("checkpoint.pth", checkpoint, model.state_dict(), key="model", notes=foreign)
save("checkpoint_legacy.pth", checkpoint, model.state_dict(), key="model", notes=["it is a file of PyTorch before 1.6"],
     _use_new_zipfile_serialization=False)
save("checkpoint_protocol5.pth", checkpoint, model.state_dict(), key="model", pickle_protocol=5)

averaged = torch.optim.swa_utils.AveragedModel(model)
save("averaged.pth", averaged.state_dict(), model.state_dict(), notes=["took `module.` off the front of every name"])
wrapped = {f"_orig_mod.module.{name}": tensor for name, tensor in model.state_dict().items()}
save("wrapped.pth", {"net": wrapped, "epoch": 1}, model.state_dict(), key="net")
save("ema_of_ema.pth", {"ema": {"decay": 0.999, "module": model.state_dict()}, "model": {"other": torch.ones(1)}},
     model.state_dict(), key="ema.module", notes=["other sets of tensors in the file: `model`"])
save("unknown_key.pth", {"generator": model.state_dict(), "epoch": 1}, model.state_dict(), key="generator")
extra = dict(model.state_dict(), **{"bn._extra_state": None, "note": "hello"})
save("extra.pth", extra, model.state_dict(), notes=["left out 2 entries that are not tensors: `bn._extra_state`, `note`"])
broken = {"a": torch.tensor([1.0, float("nan")]), "b": torch.tensor([float("inf")], dtype=torch.float16), "c": torch.ones(1)}
torch.save(broken, HERE / "not_finite.pth")

refused("whole_module.pth", model, "a whole object of the class `torch.nn.modules.container.Sequential`")
refused("whole_module_legacy.pth", nn.Linear(1, 1), "a whole object of the class `torch.nn.modules.linear.Linear`",
        _use_new_zipfile_serialization=False)
refused("whole_module_nested.pth", {"model": model, "epoch": 1}, "a whole object of the class")
refused("several.pth", {"generator": {"a": base}, "critic": {"a": base}}, "name one of `generator`, `critic`")
refused("tensor.pth", base, "it holds a tensor")
refused("list.pth", [base], "it holds a list")
refused("numbers.pth", {"epoch": 1}, "its keys are `epoch`")
refused("empty.pth", {}, "an empty dictionary")
refused("complex.pth", {"a": torch.ones(1, dtype=torch.complex64)}, "its type is `torch.complex64`")
refused("float8.pth", {"a": torch.ones(2).to(torch.float8_e4m3fn)}, "its type is `torch.float8_e4m3fn`")
refused("quantized.pth", {"a": base, "q": torch.quantize_per_tensor(base, 0.1, 0, torch.qint8)},
        "tensor `q` is made by `torch._utils._rebuild_qtensor`")
refused("sparse.pth", {"a": base, "s": base.to_sparse()}, "tensor `s` is made by `torch._utils._rebuild_sparse_tensor`")
refused("negated.pth", {"a": torch.ones(2, dtype=torch.complex64).conj().imag}, "is made by `torch._utils._rebuild_tensor_v2`")
refused("counters.pth", {"total_ops": torch.ones(1)}, "it is a file of PyTorch that holds no tensors")
refused("array.pth", {"a": base, "n": numpy.ones(2)}, "tensor `n` is made by `numpy._core.multiarray._reconstruct`")

with open(HERE / "dump.pkl", "wb") as file:
    pickle.dump({"a": base}, file)
EXPECTED["dump.pkl"] = {"error": "were written with `pickle.dump`"}
with open(HERE / "plain.pkl", "wb") as file:
    pickle.dump({"a": 1}, file)
EXPECTED["plain.pkl"] = {"error": "it is a pickle and not a file of `torch.save` or `paddle.save`"}
try:
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), str(HERE / "script.pt"))
    EXPECTED["script.pt"] = {"error": "a TorchScript file"}
except Exception as error:
    print("no TorchScript:", error)
numpy.savez(HERE / "arrays.npz", a=numpy.ones(2))
EXPECTED["arrays.npz"] = {"error": "its entries are `a.npy`"}



# What `paddle.save` writes of a `state_dict()`: `pickle.dump` of a dictionary of arrays, protocol 4 and in its first versions 2.
def pickled(name, saved, state=None, error=None, key=None, notes=(), protocol=4, old_names=False):
    data = pickle.dumps(saved, protocol=protocol)
    if old_names:  # NumPy before 2 has another name for its module; in these protocols a name ends with a line.
        data = data.replace(b"numpy._core.multiarray\n", b"numpy.core.multiarray\n")
    (HERE / name).write_bytes(data)
    tensors = {} if state is None else describe({k: torch.from_numpy(numpy.array(v, order="C")) for k, v in state.items()})
    EXPECTED[name] = {"error": error} if error else {"key": key, "tensors": tensors, "notes": list(notes)}


matrix = numpy.arange(12, dtype=numpy.float32).reshape(3, 4) / 7 - 0.5
arrays = {
    "conv1._conv.weight": matrix.reshape(3, 2, 2, 1), "turned": numpy.asfortranarray(matrix),
    "cube": numpy.asfortranarray(numpy.arange(24, dtype=numpy.float32).reshape(2, 3, 4)), "scalar": numpy.array(2.5, numpy.float32),
    "half": matrix.astype(numpy.float16), "double": matrix.astype(numpy.float64) * (1 + 2**-30), "same": matrix, "line": matrix[1],
    "int64": numpy.array([-(2**62), 7]), "int8": numpy.array([-128, 127], numpy.int8), "uint16": numpy.array([1, 65535], numpy.uint16),
    "bool": numpy.array([True, False]),
}
paddle = dict(arrays, **{"StructuredToParameterName@@": {name: f"{name}_0" for name in arrays}})
note = "it is a pickle of NumPy arrays, as Paddle writes them"
pickled("arrays.pdparams", paddle, arrays, notes=[note, "converted 1 tensors from float16 to float32"])
pickled("arrays_protocol3.pdparams", paddle, arrays, notes=[note], protocol=3)
pickled("arrays_protocol2.pdparams", paddle, arrays, notes=[note], protocol=2)
pickled("arrays_old_names.pdparams", paddle, arrays, notes=[note], protocol=2, old_names=True)
pickled("arrays_nested.pdparams", {"epoch": 3, "model": paddle}, arrays, key="model", notes=["the weights are those under `model`"])


class Tensor:
    """`paddle.save` of dictionaries inside of each other reduces a tensor to a call of `tuple` (seen in files of Paddle 3.3.1)."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def __reduce__(self):
        return tuple, ((self.name, self.array),)


pairs = {name: Tensor(f"linear_{number}.w_0", array) for number, (name, array) in enumerate(arrays.items())}
for protocol in (2, 4):
    pickled(f"pairs_protocol{protocol}.pdparams", {"epoch": 3, "model": pairs}, arrays, key="model", protocol=protocol)
pickled("arrays_protocol5.pdparams", arrays, error="is made by `numpy._core.numeric._frombuffer`", protocol=5)
pickled("big_endian.pdparams", {"a": matrix, "b": matrix.astype(">f4")}, error="tensor `b` is made by `numpy.dtype`")
pickled("objects.pdparams", {"a": matrix, "b": numpy.array([None, {}])}, error="tensor `b` is made by `numpy.dtype`")
pickled("fields.pdparams", {"a": matrix, "b": numpy.zeros(2, [("x", "f4")])}, error="tensor `b` is made by `numpy.dtype`")
pickled("matrix.pdparams", {"a": matrix, "b": numpy.matrix([[1.0, 2.0]])}, error="tensor `b` is made by `numpy.matrix`")
pickled("masked.pdparams", {"a": matrix, "b": numpy.ma.array([1.0, 2.0])}, error="tensor `b` is made by `numpy.ma.core._mareconstruct`")
pickled("complex.pdparams", {"a": matrix.astype(numpy.complex64)}, error="its type is `torch.complex64`")
pickled("single.pdparams", matrix, error="it holds a tensor")

lines = [f"{json.dumps(name)}: {json.dumps(expected, separators=(',', ':'))}" for name, expected in EXPECTED.items()]
(HERE / "made.json").write_text("{" + ",\n".join(lines) + "}\n")
