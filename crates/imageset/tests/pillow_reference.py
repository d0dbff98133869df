"""Writes what the tests in `src/pillow.rs`, `src/resize.rs`, `src/color_jitter.rs`, `src/decode.rs` and `src/augment/*` compare
with: `pillow/*` next to this file.

    pip install 'pillow>=13.0' numpy timm==1.0.31 torchvision
    python crates/imageset/tests/pillow_reference.py

The picture is made from a formula, in whole numbers, so that the Rust test can make the same one: smooth colours, fine
stripes, hard edges and noise. `reference.json` holds resized and recoloured versions of it; of large ones some levels and
a checksum of all. The image files are small ones that only Pillow can write here: CMYK, progressive, EXIF orientations.

The random choices of torchvision and timm are not involved: the numbers are those of `Image.resize`, `ImageEnhance` and mode
`HSV`, those of timm's operations at fixed strengths, the strengths that timm and torchvision derive from a magnitude, and
timm's tables of operations.
"""

import io
import json
import math
import os
import pathlib
import zlib

# torch's vector instructions round differently from machine to machine, by which a shift of 16 pixels becomes one of 15.
os.environ["ATEN_CPU_CAPABILITY"] = "default"

import numpy as np
import PIL
import timm
import torch
from PIL import Image, ImageEnhance
from timm.data import auto_augment
from torchvision.transforms import TrivialAugmentWide, functional

HERE = pathlib.Path(__file__).parent / "pillow"
WIDTH, HEIGHT = 97, 61


def picture(width, height):
    """The formula. All arithmetic is modulo 2**32."""
    y, x = np.meshgrid(np.arange(height, dtype=np.uint64), np.arange(width, dtype=np.uint64), indexing="ij")
    levels = np.zeros((height, width, 3), np.uint8)
    for channel in range(3):
        ramp = (x * (3 + channel) + y * (5 - channel)) % 256
        stripes = ((x // 3 + y // 5 + channel) % 2) * 90
        edge = np.where((x // 16 + y // 11) % 3 == channel, 255, 0).astype(np.uint64)
        noise = ((x * 2654435761 + y * 40503 + channel * 97) % 4294967296) // 67108864
        levels[:, :, channel] = ((ramp + stripes + edge + noise) // 3 % 256).astype(np.uint8)
    return Image.fromarray(levels)


def resized(before, after, name):
    levels = np.asarray(picture(*before).resize(after, getattr(Image.Resampling, name.upper()))).reshape(-1)
    # Not a multiple of 3, so that all channels are among the levels.
    step = max(1, levels.size // 100)
    step += step % 3 == 0
    return {
        "from": before,
        "to": after,
        "interpolation": name,
        "crc32": zlib.crc32(levels.tobytes()),
        "step": step,
        "levels": levels[::step].tolist(),
    }


def hue(image, turn):
    """torchvision's `adjust_hue` on a PIL image."""
    h, s, v = image.convert("HSV").split()
    levels = np.array(h, dtype=np.uint8)
    levels += np.int32(turn * 255).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(levels), s, v)).convert("RGB")


def recoloured(image, name, factor):
    change = {
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "saturation": lambda: ImageEnhance.Color(image).enhance(factor),
        "hue": lambda: hue(image, factor),
    }[name]
    levels = np.asarray(change()).reshape(-1)
    return {"property": name, "factor": factor, "levels": levels.tolist()}


FILL = (124, 116, 104)

# Arguments of each operation that moves no pixels, by timm's names.
CHANGES = {
    "AutoContrast": [None],
    "Equalize": [None],
    "Invert": [None],
    "Posterize": [1, 2, 4, 7, 8],
    "Solarize": [0, 1, 127.5, 128, 255, 256],
    "SolarizeAdd": [0, 1, 60, 110, 128],
    "Color": [0.0, 0.1, 0.55, 1.0, 1.9],
    "Contrast": [0.0, 0.1, 0.55, 1.0, 1.9],
    "Brightness": [0.0, 0.1, 0.55, 1.0, 1.9],
    "Sharpness": [0.0, 0.1, 0.64, 1.0, 1.27, 1.9, 3.0],
    "GaussianBlur": [0.1, 0.5, 0.83, 1.0, 1.9, 2.0, 5.0, 40.0],
}

# Those of the operations that do.
MOVES = {
    "Rotate": [-30.0, -7.3, 0.0, 1e-9, 0.9, 27.0, 45.0, 90.0, 135.0, 180.0, -90.0, 360.0],
    "ShearX": [-0.99, -0.27, 0.0, 0.1234, 0.3],
    "ShearY": [-0.99, -0.27, 0.0, 0.1234, 0.3],
    "TranslateX": [-7.2, -3.0, 0.0, 0.5, 2.25, 1000.0],
    "TranslateY": [-4.05, -3.0, 0.0, 0.5, 1.7, 1000.0],
}


def changed(size, operation, argument, name):
    arguments = [] if argument is None else [argument]
    moved = {} if name is None else {"resample": getattr(Image.Resampling, name.upper()), "fillcolor": FILL}
    result = auto_augment.NAME_TO_OP[operation](picture(*size), *arguments, **moved)
    levels = np.asarray(result).reshape(-1)
    entry = {"size": size, "operation": operation, "argument": argument, "crc32": zlib.crc32(levels.tobytes())}
    if name is not None:
        entry["interpolation"] = name
    # Where little is different, there is something to look at. Not a multiple of 3, so that all channels are among the levels.
    entry["levels"] = levels[::31].tolist() if size == (16, 9) else []
    return entry


def all_changed():
    # Fewer than the 3 pixels of a smooth filter, narrower than a blur, a square one for quarters of a turn.
    small, odd = (16, 9), [(97, 61), (9, 9), (2, 5), (7, 2), (1, 1)]
    entries = [changed(small, o, a, None) for o, arguments in CHANGES.items() for a in arguments]
    names = ("nearest", "bilinear", "bicubic")
    entries += [changed(small, o, a, n) for o, arguments in MOVES.items() for a in arguments for n in names]
    for size in odd:
        entries += [changed(size, o, arguments[-1], None) for o, arguments in CHANGES.items()]
        entries += [changed(size, o, a, n) for o, arguments in MOVES.items() for a in arguments[:2] for n in names]
    entries += [changed((9, 9), "Rotate", a, n) for a in (90.0, -90.0, 180.0, 450.0) for n in names]
    # Too far for fixed-point numbers.
    entries += [changed((2, 200), "ShearX", a, "nearest") for a in (-170.0, 163.9)]
    return entries


def strengths():
    """What timm makes of magnitudes, with each operation's direction to the right and to the left."""
    magnitudes = [0.0, 0.3, 1.0, 2.45, 3.0, 4.9, 5.0, 6.0, 7.0, 7.77, 8.0, 9.0, 9.99, 10.0]
    hparams = {"translate_pct": 0.45}
    entries = []
    names = {*auto_augment._RAND_TRANSFORMS, *auto_augment._RAND_INCREASING_TRANSFORMS, "PosterizeOriginal"}
    for name in sorted(names):
        level = auto_augment.LEVEL_TO_ARG[name]
        if level is None:
            continue
        entry = {"kind": name, "magnitudes": magnitudes}
        for key, draw in (("positive", 0.0), ("negative", 1.0)):
            auto_augment.random.random = lambda draw=draw: draw
            entry[key] = [level(magnitude, hparams)[0] for magnitude in magnitudes]
        entries.append(entry)
    return entries


def policies():
    def rows(name):
        policy = auto_augment.auto_augment_policy(name)
        return [[(step.name, step.prob, step.magnitude) for step in pair] for pair in policy]

    return {name: rows(name) for name in ("original", "originalr", "v0", "v0r")}


def trivial(num_bins):
    """Operations and arguments of `TrivialAugmentWide`, by magnitude: its own table, then what it makes of a magnitude."""
    entries = []
    for name, (magnitudes, signed) in TrivialAugmentWide()._augmentation_space(num_bins).items():
        magnitudes = magnitudes.tolist() if magnitudes.ndim else [0.0]
        if signed:
            magnitudes += [-m for m in magnitudes]
        entries.append({"operation": name, "arguments": [trivial_argument(name, m) for m in magnitudes]})
    return entries


def trivial_argument(name, magnitude):
    degrees = math.degrees(math.atan(magnitude))
    matrix = functional._get_inverse_affine_matrix
    return {
        "ShearX": lambda: matrix([0, 0], 0.0, [0, 0], 1.0, [degrees, 0.0])[1],
        "ShearY": lambda: matrix([0, 0], 0.0, [0, 0], 1.0, [0.0, degrees])[3],
        "TranslateX": lambda: matrix([8.5, 4.0], 0.0, [int(magnitude), 0], 1.0, [0.0, 0.0])[2],
        "TranslateY": lambda: matrix([8.5, 4.0], 0.0, [0, int(magnitude)], 1.0, [0.0, 0.0])[5],
        "Brightness": lambda: 1.0 + magnitude,
        "Color": lambda: 1.0 + magnitude,
        "Contrast": lambda: 1.0 + magnitude,
        "Sharpness": lambda: 1.0 + magnitude,
    }.get(name, lambda: magnitude)()


def mixed(weights, part):
    """timm's AugMix of the inverted, the equalized and the posterized picture."""
    image = picture(WIDTH, HEIGHT)
    operations = [auto_augment.invert, auto_augment.equalize, lambda image: auto_augment.posterize(image, 3)]
    mixer = auto_augment.AugMixAugment(None, depth=1)
    chosen = iter(operations)
    np.random.choice = lambda *_, **__: [next(chosen)]
    levels = np.asarray(mixer._apply_basic(image, np.float32(weights), np.float32(part)))
    return {"weights": weights, "part": part, "crc32": zlib.crc32(levels.tobytes())}


def main():
    HERE.mkdir(exist_ok=True)
    image = picture(WIDTH, HEIGHT)
    small = picture(16, 9)
    whole = (WIDTH, HEIGHT)
    sizes = [(whole, after) for after in ((40, 25), (97, 30), (31, 61), (150, 120), (8, 90), (224, 224), (1, 1), whole)]
    # Single pixels, rows and columns; next to the same size; extreme shapes; more and less than the 16 rows and 8 columns
    # that are computed at once.
    sizes += [((1, 1), (1, 1)), ((1, 1), (5, 4)), ((1, 7), (3, 3)), ((7, 1), (2, 5)), ((2, 2), (19, 23))]
    sizes += [((33, 19), (32, 18)), ((33, 19), (34, 20)), ((33, 19), (33, 20)), ((33, 19), (34, 19))]
    sizes += [((640, 3), (20, 64)), ((3, 500), (40, 2)), ((1000, 2), (1, 2)), ((2, 1000), (2, 1)), ((300, 5), (299, 1))]
    sizes += [((16, 16), (8, 8)), ((17, 15), (9, 17)), ((15, 33), (16, 31)), ((500, 375), (298, 224)), ((120, 90), (341, 256))]
    # Around the border between rows first and columns first.
    sizes += [((20, 60), (10, 40)), ((20, 60), (10, 39)), ((60, 80), (50, 60)), ((60, 80), (50, 59)), ((60, 80), (61, 79))]
    sizes += [((256, 341), (224, 224)), ((60, 80), (61, 80)), ((60, 80), (61, 81))]
    factors = {
        "brightness": [0.0, 0.6, 1.0, 1.37],
        "contrast": [0.0, 0.613, 1.4],
        "saturation": [0.0, 0.71, 1.0, 1.39],
        "hue": [-0.5, -0.1, 0.0, 0.07, 0.5],
    }
    reference = {
        "pillow": PIL.__version__,
        "picture_sum": int(np.asarray(image).astype(np.int64).sum()),
        "resized": [resized(before, after, n) for before, after in sizes for n in ("bilinear", "bicubic", "nearest")],
        "recoloured": [recoloured(small, n, f) for n, fs in factors.items() for f in fs],
        "timm": timm.__version__,
        "torch": torch.__version__.split("+")[0],
        "changed": all_changed(),
        "strengths": strengths(),
        "kinds": {
            "rand_augment": auto_augment._RAND_TRANSFORMS,
            "rand_augment_increasing": auto_augment._RAND_INCREASING_TRANSFORMS,
            "aug_mix": auto_augment._AUGMIX_TRANSFORMS,
        },
        "policies": policies(),
        "trivial": {str(bins): trivial(bins) for bins in (31, 8)},
        "mixed": [mixed([0.2, 0.5, 0.3], 0.7), mixed([0.0, 0.1, 0.9], 1.0), mixed([0.3, 0.3, 0.4], 0.0)],
    }
    (HERE / "reference.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")

    smooth = picture(24, 16).resize((12, 8), Image.Resampling.BOX).resize((24, 16), Image.Resampling.BICUBIC)
    files = {}

    def save(name, image, format="JPEG", **options):
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        (HERE / name).write_bytes(buffer.getvalue())
        opened = Image.open(io.BytesIO(buffer.getvalue()))
        files[name] = np.asarray(opened.convert("RGB")).reshape(-1).tolist()

    save("baseline.jpg", smooth, quality=90)
    save("progressive.jpg", smooth, quality=90, progressive=True)
    save("restart.jpg", smooth, quality=90, restart_marker_blocks=1)
    save("gray.jpg", smooth.convert("L"), quality=90)
    # Pillow writes Adobe's inverted CMYK.
    save("cmyk.jpg", smooth.convert("CMYK"), quality=95)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose values that undo each orientation's fix
        turned = smooth if orientation == 1 else smooth.transpose(Image.Transpose(back[orientation]))
        for ending, format, options in (("jpg", "JPEG", {"quality": 90, "subsampling": 0}), ("png", "PNG", {}), ("webp", "WEBP", {"lossless": True})):
            if ending != "jpg" and orientation not in (6,):
                continue
            buffer = io.BytesIO()
            turned.save(buffer, format, exif=exif, **options)
            (HERE / f"orientation_{orientation}.{ending}").write_bytes(buffer.getvalue())
    (HERE / "files.json").write_text(json.dumps(files, separators=(",", ":")) + "\n")


main()
