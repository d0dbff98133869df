"""Writes what the tests in `src/pillow.rs`, `src/resize.rs`, `src/color_jitter.rs` and `src/decode.rs` compare with:
`pillow/*` next to this file.

    pip install 'pillow>=13.0' numpy
    python crates/imageset/tests/pillow_reference.py

The picture is made from a formula, in whole numbers, so that the Rust test can make the same one: smooth colours, fine
stripes, hard edges and noise. `reference.json` holds resized and recoloured versions of it; of large ones some levels and
a checksum of all. The image files are small ones that only Pillow can write here: CMYK, progressive, EXIF orientations.

The random choices of torchvision are not involved: the numbers are those of `Image.resize`, `ImageEnhance` and mode `HSV`.
"""

import io
import json
import pathlib
import zlib

import numpy as np
import PIL
from PIL import Image, ImageEnhance

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
