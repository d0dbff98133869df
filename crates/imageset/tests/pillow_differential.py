"""Compares the decoders with Pillow over thousands of files that are made here from a seed.

    pip install 'pillow>=13.0'
    cargo build --release -p imageset --example decode_all
    python crates/imageset/tests/pillow_differential.py target/release/examples/decode_all [--files 3000] [--seed 1] [--keep DIR]

Each file is decoded by both. Pillow's picture is turned by `ImageOps.exif_transpose`, composited onto white and converted to RGB. The
table has a row for each kind of file: how many there were, how many were the same to the bit, the largest and the mean
difference of a level, how many only one of the two refused, and how many broke the rule of the kind. The rule: no difference
above the limit of the kind, which is 0 for what loses nothing, and nothing refused that Pillow reads. JPEG differs by the
rounding of the cosine transform, of colours and of upsampling. Exit code 1 if a rule was broken.

JPEG files that no program at hand writes are written here, from coefficients: any sampling factors, scans in any order,
progressions, restart intervals, markers of Adobe, quantization tables between scans, segments after the last one. Where
`zune-jpeg` upsamples, their sides are whole units: at an edge it takes neighbours from outside of the picture, where these files
hold noise. Pillow's encoder repeats the edge there, with its losses, so its files have a kind with a wider limit for other sides.
"""

import argparse
import collections
import io
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib

from PIL import Image, ImageFilter, ImageOps

warnings.simplefilter("ignore")

Case = collections.namedtuple("Case", "kind ending data limit")


def picture(rng, width, height):
    """Smooth colours, an edge and a little noise."""
    small = Image.new("RGB", (3, 3))
    small.putdata([tuple(rng.randrange(256) for _ in range(3)) for _ in range(9)])
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    noise = Image.effect_noise((width, height), rng.choice([5, 25])).convert("RGB")
    image = Image.blend(image, noise, 0.15)
    if rng.random() < 0.5:
        image.paste(tuple(rng.randrange(256) for _ in range(3)), (width // 3, height // 4, width, height // 2 + 1))
    return image


def size(rng, most=70):
    return rng.randrange(1, most), rng.randrange(1, most)


def saved(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


# EXIF -------------------------------------------------------------------------------------------------------------------


def tiff(rng, orientation, kind=None):
    """A TIFF file with the tag, in any byte order and at any place."""
    order = rng.choice("<>")
    kind = kind or rng.choice([3, 3, 4, 8, 9])
    place = rng.choice([8, 8, 9, 30])
    others = rng.randrange(4)
    value = {1: "Bxxx", 3: "Hxx", 4: "I", 8: "hxx", 9: "i"}[kind]
    data = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, place)
    data = data.ljust(place, b"\0") + struct.pack(order + "H", others + 1)
    for tag in range(others):
        data += struct.pack(order + "HHIHxx", 0x100 + tag, 3, 1, 7)
    return data + struct.pack(order + "HHI" + value, 0x112, kind, 1, orientation) + bytes(4)


def xmp(rng, orientation):
    return rng.choice([b'<x tiff:Orientation="%d"/>', b"<tiff:Orientation>%d</tiff:Orientation>"]) % orientation


# JPEG -------------------------------------------------------------------------------------------------------------------


def segment(code, payload):
    return struct.pack(">BBH", 0xFF, code, len(payload) + 2) + payload


def codes(counts, symbols):
    """The code and its length for each symbol (ITU T.81, C.2)."""
    table, code, place = {}, 0, 0
    for length, count in enumerate(counts, 1):
        for symbol in symbols[place : place + count]:
            table[symbol] = (code, length)
            code += 1
        place += count
        code <<= 1
    return table


def standard_tables():
    """The Huffman tables of annex K, as Pillow's encoder writes them, by class and number."""
    data, tables, at = saved(Image.new("RGB", (8, 8)), "JPEG"), {}, 2
    while data[at + 1] != 0xDA:
        length = struct.unpack_from(">H", data, at + 2)[0]
        content = data[at + 4 : at + 2 + length]
        while data[at + 1] == 0xC4 and content:
            count = sum(content[1:17])
            tables[content[0] >> 4, content[0] & 15] = (list(content[1:17]), list(content[17 : 17 + count]))
            content = content[17 + count :]
        at += 2 + length
    return tables


STANDARD = standard_tables()
# One table of each class with every symbol, for progressions.
OWN = {(0, n): ([0] * 4 + [16] + [0] * 11, list(range(16))) for n in (0, 1)}
OWN |= {(1, n): ([0] * 7 + [200, 56] + [0] * 7, list(range(256))) for n in (0, 1)}


def scan(components, band=(0, 63), bits=(0, 0)):
    return components, band, bits


def progression(rng, count):
    everything = list(range(count))
    low = rng.choice([0, 1, 2])
    scans = [scan(everything, (0, 0), (0, low))]
    if rng.random() < 0.3 and count > 1:
        scans = [scan([one], (0, 0), (0, low)) for one in everything]
    split = rng.choice([1, 2, 5, 20])
    for one in rng.sample(everything, count):
        scans += [scan([one], (1, split), (0, low)), scan([one], (split + 1, 63), (0, low))]
    for bit in range(low, 0, -1):
        scans += [scan([one], (1, 63), (bit, bit - 1)) for one in everything]
        scans.append(scan(everything, (0, 0), (bit, bit - 1)))
    return scans


class Jpeg:
    """A file of random coefficients."""

    def __init__(self, rng, sides, factors):
        self.width, self.height = sides
        self.factors = factors
        self.ids = list(range(1, len(factors) + 1))
        self.progressive = False
        self.scans = [scan(list(range(len(factors))))]
        self.interval = 0
        self.tables, self.writes_tables = OWN, True
        self.front = self.after_frame = self.after_scans = b""
        # The steps of both tables in zigzag order, uneven so that another table or another order shows.
        most = rng.choice([2, 5, 12])
        self.steps = [[rng.randrange(1, most + 1) for _ in range(64)] for _ in range(2)]
        self.redefines_quantization = False
        self.blocks = []
        for component in range(len(factors)):
            wide, high, stride, rows = self.grid(component)
            blocks = [[0] * 64 for _ in range(stride * rows)]
            level = 0
            for row in range(high):
                for column in range(wide):
                    block = blocks[row * stride + column]
                    level = max(-50, min(50, level + rng.randrange(-20, 21)))
                    steps = self.steps[min(component, 1)]
                    block[0] = level * 8 // steps[0]
                    if rng.random() < 0.6:
                        for _ in range(rng.randrange(1, 9)):
                            at = rng.choice([1, 2, 3, 5, 9, 14, 20, 33, 50, 63])
                            block[at] = rng.randrange(-24, 25) // steps[at]
            self.blocks.append(blocks)

    def grid(self, component):
        most_h, most_v = max(h for h, _ in self.factors), max(v for _, v in self.factors)
        h, v = self.factors[component]
        up = lambda a, b: -(-a // b)
        wide, high = up(up(self.width * h, most_h), 8), up(up(self.height * v, most_v), 8)
        return wide, high, up(self.width, 8 * most_h) * h, up(self.height, 8 * most_v) * v

    def quantization(self, right=(0, 1)):
        """Both tables, with wrong steps for those whose number is not `right`."""
        steps = [[step if number in right else 200 - step for step in steps] for number, steps in enumerate(self.steps)]
        return b"".join(segment(0xDB, bytes([number] + table)) for number, table in enumerate(steps))

    def data(self):
        frame = struct.pack(">BHHB", 8, self.height, self.width, len(self.factors))
        for number, (name, (h, v)) in enumerate(zip(self.ids, self.factors)):
            frame += bytes([name, h << 4 | v, min(number, 1)])
        data = b"\xff\xd8" + self.front
        if not self.redefines_quantization:
            data += self.quantization()
        data += segment(0xC2 if self.progressive else 0xC0, frame) + self.after_frame
        if self.writes_tables:
            for (kind, number), (counts, symbols) in sorted(self.tables.items()):
                data += segment(0xC4, bytes([kind << 4 | number] + counts + symbols))
        if self.interval:
            data += segment(0xDD, struct.pack(">H", self.interval))
        begun = set()
        for components, (start, end), (high, low) in self.scans:
            if self.redefines_quantization:
                # A component keeps the table that there is at its first scan.
                data += self.quantization({min(one, 1) for one in components if one not in begun})
                begun.update(components)
            header = bytes([len(components)])
            for component in components:
                header += bytes([self.ids[component], 0x11 if component else 0x00])
            data += segment(0xDA, header + bytes([start, end, high << 4 | low]))
            data += Encoder(self, components, (start, end), (high, low)).encode()
        return data + self.after_scans + b"\xff\xd9"


class Encoder:
    """Writes the data of a scan."""

    def __init__(self, jpeg, components, band, bits):
        self.jpeg, self.components, self.band, self.bits = jpeg, components, band, bits
        self.codes = {key: codes(*table) for key, table in jpeg.tables.items()}
        self.out, self.text, self.ended, self.corrections = bytearray(), [], 0, []
        self.predictions = [0] * 4

    def units(self):
        if len(self.components) == 1:
            component = self.components[0]
            wide, high, stride, _ = self.jpeg.grid(component)
            return [[(component, y * stride + x)] for y in range(high) for x in range(wide)]
        h, v = self.jpeg.factors[self.components[0]]
        _, _, stride, rows = self.jpeg.grid(self.components[0])
        units = []
        for unit_y in range(rows // v):
            for unit_x in range(stride // h):
                unit = []
                for component in self.components:
                    h2, v2 = self.jpeg.factors[component]
                    across = self.jpeg.grid(component)[2]
                    unit += [
                        (component, (unit_y * v2 + y) * across + unit_x * h2 + x) for y in range(v2) for x in range(h2)
                    ]
                units.append(unit)
        return units

    def encode(self):
        interval = self.jpeg.interval
        for number, unit in enumerate(self.units()):
            if interval and number and number % interval == 0:
                self.flush()
                self.out += bytes([0xFF, 0xD0 + (number // interval - 1) % 8])
                self.predictions = [0] * 4
            for component, place in unit:
                self.block(component, self.jpeg.blocks[component][place])
        self.flush()
        return bytes(self.out)

    def block(self, component, block):
        (start, end), (high, low) = self.band, self.bits
        table = 1 if component else 0
        if start == 0:
            value = block[0] >> low
            if high:
                self.put(value & 1, 1)
            else:
                difference, self.predictions[component] = value - self.predictions[component], value
                self.symbol(0, table, abs(difference).bit_length())
                self.value(difference)
        if end == 0:
            return
        values = [(abs(v) >> low) * (1 if v > 0 else -1) for v in block[max(start, 1) : end + 1]]
        if high:
            self.refined(table, values)
        else:
            self.first(table, values)

    def first(self, table, values):
        zeros = 0
        for value in values:
            if value == 0:
                zeros += 1
                continue
            self.write_ended(table)
            while zeros > 15:
                self.symbol(1, table, 0xF0)
                zeros -= 16
            self.symbol(1, table, zeros << 4 | abs(value).bit_length())
            self.value(value)
            zeros = 0
        if zeros:
            self.ended += 1
            if not self.jpeg.progressive:
                self.write_ended(table)

    def refined(self, table, values):
        new = [at for at, value in enumerate(values) if abs(value) == 1]
        last, zeros, corrections = (new[-1] if new else -1), 0, []
        for at, value in enumerate(values):
            if value == 0:
                zeros += 1
                continue
            while zeros > 15 and at <= last:
                self.write_ended(table)
                self.symbol(1, table, 0xF0)
                self.text += corrections
                corrections, zeros = [], zeros - 16
            if abs(value) > 1:
                corrections.append(abs(value) & 1)
                continue
            self.write_ended(table)
            self.symbol(1, table, zeros << 4 | 1)
            self.text += [int(value > 0)] + corrections
            corrections, zeros = [], 0
        if zeros or corrections:
            self.ended += 1
            self.corrections += corrections

    def write_ended(self, table):
        if self.ended:
            exponent = self.ended.bit_length() - 1
            self.symbol(1, table, exponent << 4)
            self.put(self.ended - (1 << exponent), exponent)
            self.text += self.corrections
            self.ended, self.corrections = 0, []

    def symbol(self, kind, table, symbol):
        self.put(*self.codes[kind, table][symbol])

    def value(self, value):
        count = abs(value).bit_length()
        self.put((value if value >= 0 else value - 1) & ((1 << count) - 1), count)

    def put(self, bits, count):
        self.text += [bits >> at & 1 for at in reversed(range(count))]

    def flush(self):
        self.write_ended(1 if self.components[0] else 0)
        self.text += [1] * (-len(self.text) % 8)
        for at in range(0, len(self.text), 8):
            byte = int("".join(map(str, self.text[at : at + 8])), 2)
            self.out += bytes([byte, 0] if byte == 0xFF else [byte])
        self.text = []


# Those that the decoder upsamples, where it is not asked about edges.
UPSAMPLED = [
    [(2, 1), (1, 1), (1, 1)],
    [(2, 2), (1, 1), (1, 1)],
    [(1, 2), (1, 1), (1, 1)],
    [(4, 1), (1, 1), (1, 1)],
    [(4, 2), (1, 1), (1, 1)],
    [(2, 2), (2, 1), (2, 1)],
    [(2, 2), (1, 2), (1, 2)],
    [(2, 2), (1, 1), (1, 1), (2, 2)],
]
FULL = [[(1, 1)], [(2, 2)], [(1, 1)] * 3, [(2, 1)] * 3, [(1, 1)] * 4]


def odd_factors(rng):
    """Any factors of three or four components that divide the largest and fit into a unit of ten blocks."""
    while True:
        factors = [(rng.randrange(1, 5), rng.randrange(1, 5)) for _ in range(rng.choice([3, 3, 3, 4]))]
        h, v = max(h for h, _ in factors), max(v for _, v in factors)
        fits = sum(a * b for a, b in factors) <= 10
        if fits and all(h % a == 0 and v % b == 0 for a, b in factors) and factors not in UPSAMPLED + FULL:
            return factors


def whole(rng, factors):
    h, v = max(h for h, _ in factors), max(v for _, v in factors)
    return 8 * h * rng.randrange(1, 4), 8 * v * rng.randrange(1, 4)


def kept(rng):
    factors = rng.choice(UPSAMPLED + FULL)
    return Jpeg(rng, whole(rng, factors) if factors in UPSAMPLED else size(rng), factors)


def adobe(transform):
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform]))


JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def jpeg_of_pillow(rng, sides=None):
    image = picture(rng, *(sides or size(rng, 120))).convert(rng.choice(["RGB", "RGB", "RGB", "L", "CMYK"]))
    options = {"quality": rng.randrange(30, 97), "progressive": rng.random() < 0.4, "optimize": rng.random() < 0.3}
    if image.mode == "RGB":
        options["subsampling"] = rng.choice([0, 1, 2])
    if rng.random() < 0.3:
        options["restart_marker_blocks"] = rng.choice([1, 3, 10])
    return saved(image, "JPEG", **options)


def after_scans(rng):
    """Segments that change nothing any more."""
    parts = [
        segment(0xFE, b"hi"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xDB, b"\0" + bytes([99] * 64)),
        segment(0xDD, b"\0\1"),
        segment(0xC4, bytes([0, 1] + [0] * 15 + [0])),
        adobe(0),
        b"\xff",
    ]
    return b"".join(rng.sample(parts, rng.choice([0, 0, 1, 2])))


def jpeg_of_whole_units(rng):
    return jpeg_of_pillow(rng, (16 * rng.randrange(1, 8), 16 * rng.randrange(1, 8)))


def jpeg_of_one_scan(rng):
    jpeg = kept(rng)
    if rng.random() < 0.3:
        # So little data that a decoder has read all of them when it begins the last rows.
        jpeg.blocks = [[[0] * 64 for _ in blocks] for blocks in jpeg.blocks]
        jpeg.tables = STANDARD
    jpeg.interval = rng.choice([0, 0, 1, 5])
    jpeg.after_scans = after_scans(rng)
    return jpeg.data()


def jpeg_odd(rng):
    jpeg = Jpeg(rng, size(rng), odd_factors(rng))
    jpeg.interval = rng.choice([0, 0, 1, 5])
    return jpeg.data()


def jpeg_in_scans(rng):
    factors = rng.choice([*UPSAMPLED, [(1, 1)] * 3, [(1, 1)] * 4, odd_factors(rng)])
    jpeg = Jpeg(rng, size(rng), factors)
    order = rng.sample(range(len(factors)), len(factors))
    cut = rng.randrange(1, len(factors))
    jpeg.scans = rng.choice([
        [scan([one]) for one in order],
        [scan(sorted(order[:cut])), scan(sorted(order[cut:]))],
    ])
    jpeg.interval = rng.choice([0, 0, 1, 5])
    jpeg.redefines_quantization = rng.random() < 0.3
    jpeg.after_scans = after_scans(rng)
    return jpeg.data()


def jpeg_progressive(rng):
    jpeg = kept(rng) if rng.random() < 0.5 else Jpeg(rng, size(rng), odd_factors(rng))
    jpeg.progressive, jpeg.scans = True, progression(rng, len(jpeg.factors))
    jpeg.interval = rng.choice([0, 1, 5])
    jpeg.redefines_quantization = rng.random() < 0.2
    jpeg.after_scans = after_scans(rng)
    return jpeg.data()


def jpeg_colours(rng):
    jpeg = Jpeg(rng, size(rng), [(1, 1)] * rng.choice([1, 3, 3, 4]))
    parts = [b"", JFIF, adobe(rng.choice([0, 1, 2, 2, 7])), segment(0xEE, b"Adobe\0\x64\0")]
    jpeg.front = b"".join(rng.sample(parts, rng.randrange(1, 4)))
    jpeg.after_frame = rng.choice([b"", adobe(rng.choice([0, 1, 2]))])
    if len(jpeg.factors) == 3:
        jpeg.ids = rng.choice([[1, 2, 3], [1, 2, 3], list(b"RGB"), [0, 1, 2], [9, 9, 9]])
    return jpeg.data()


def jpeg_without_tables(rng):
    jpeg = kept(rng)
    jpeg.tables, jpeg.writes_tables = STANDARD, False
    return jpeg.data()


def jpeg_exif(rng):
    first, second = rng.randrange(0, 10), rng.randrange(1, 9)
    exif = lambda data: segment(0xE1, b"Exif\0\0" + data)
    one, two = tiff(rng, first, rng.choice([None, None, 1])), tiff(rng, second)
    mark = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(rng, second))
    parts = rng.choice([
        exif(one),
        exif(one) + exif(two),
        exif(one[:15]) + exif(one[15:]),
        exif(b"nothing") + exif(one),
        exif(b"") + exif(one),
        mark,
        mark + exif(one),
        exif(one) + mark,
    ])
    jpeg = kept(rng)
    if rng.random() < 0.5:
        jpeg.front = parts
    else:
        jpeg.after_frame = parts
    return jpeg.data()


# PNG, GIF, BMP, WebP ----------------------------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(rng, deep=False):
    """Any colour type and depth, interlaced or not, with transparency."""
    color, depth = rng.choice([(0, 16), (2, 16), (4, 16), (6, 16)] if deep else [
        (0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (6, 8),
    ])
    width, height = size(rng, 40)
    interlaced, channels = rng.random() < 0.4, CHANNELS[color]
    levels = min(1 << depth, 1 << 16)
    rows = [[[rng.randrange(levels) for _ in range(channels)] for _ in range(width)] for _ in range(height)]
    data = b""
    for left, top, across, down in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        for row in rows[top::down]:
            samples = [sample for pixel in row[left::across] for sample in pixel]
            if samples:
                bits = "".join(format(sample, f"0{depth}b") for sample in samples)
                bits += "0" * (-len(bits) % 8)
                data += b"\0" + int(bits, 2).to_bytes(len(bits) // 8)
    chunks = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced)))
    if color == 3:
        chunks += chunk(b"PLTE", rng.randbytes(3 * levels))
        if rng.random() < 0.5:
            chunks += chunk(b"tRNS", rng.randbytes(rng.randrange(1, levels + 1)))
    elif color in (0, 2) and depth >= 8 and not deep and rng.random() < 0.4:
        chunks += chunk(b"tRNS", b"".join(struct.pack(">H", sample) for sample in rows[0][0]))
    if rng.random() < 0.3:
        chunks += chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tEXt", b"Comment\0made")
    packed = zlib.compress(data)
    cut = rng.randrange(len(packed))
    chunks += chunk(b"IDAT", packed[:cut]) + chunk(b"IDAT", packed[cut:]) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_turned(rng):
    orientation = rng.randrange(0, 10)
    exif = tiff(rng, orientation, rng.choice([None, None, 1]))
    with_prefix = rng.choice([b"", b"Exif\0\0"]) + exif
    digits = with_prefix.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\nexif\n{len(with_prefix):8}\n{lines}\n".encode()
    name = rng.choice([b"Raw profile type exif", b"Raw profile type APP1"])
    part = rng.choice([
        chunk(b"eXIf", exif),
        chunk(b"eXIf", with_prefix),
        chunk(b"tEXt", name + b"\0" + text),
        chunk(b"zTXt", name + b"\0\0" + zlib.compress(text)),
        chunk(b"iTXt", name + b"\0\0\0\0\0" + text),
        chunk(b"iTXt", name + b"\0\1\0en\0\0" + zlib.compress(text)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(rng, orientation)),
        chunk(b"eXIf", exif) + chunk(b"eXIf", tiff(rng, rng.randrange(1, 9))),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(rng, orientation)) + chunk(b"eXIf", exif),
    ])
    data = saved(picture(rng, *size(rng, 30)), "PNG")
    return data[:33] + part + data[33:] if rng.random() < 0.5 else data[:-12] + part + data[-12:]


def gif(rng):
    image = picture(rng, *rng.choice([size(rng, 14), size(rng, 90)]))
    if rng.random() < 0.3:
        image = Image.new("RGB", image.size, image.getpixel((0, 0)))
    image = image.quantize(rng.choice([2, 4, 16, 64, 256]))
    options = {"interlace": rng.random() < 0.7, "optimize": rng.random() < 0.5}
    if rng.random() < 0.4:
        options["transparency"] = rng.randrange(2)
    if rng.random() < 0.2:
        options |= {"save_all": True, "append_images": [image.rotate(180)]}
    return saved(image, "GIF", **options)


def bmp(rng):
    return saved(picture(rng, *size(rng)).convert(rng.choice(["RGB", "L", "P", "1"])), "BMP")


def webp_lossless(rng):
    image = picture(rng, *size(rng, 50))
    if rng.random() < 0.5:
        image.putalpha(picture(rng, *image.size).convert("L"))
    options = {"exact": True}
    if rng.random() < 0.6:
        exif = tiff(rng, rng.randrange(0, 10), rng.choice([None, None, 1]))
        options |= rng.choice([
            {"exif": exif},
            {"exif": b"Exif\0\0" + exif},
            {"xmp": xmp(rng, rng.randrange(1, 9))},
            {"exif": exif, "xmp": xmp(rng, rng.randrange(1, 9))},
        ])
    return saved(image, "WEBP", lossless=True, **options)


def webp_lossy(rng):
    return saved(picture(rng, *size(rng, 100)), "WEBP", quality=rng.randrange(20, 100))


# What is compared: kind, ending, how files are made, the largest difference that is allowed, and the part of all files.
KINDS = [
    ("JPEG of Pillow", "jpg", jpeg_of_whole_units, 6, 2),
    ("JPEG of Pillow, any sides", "jpg", jpeg_of_pillow, 24, 2),
    ("JPEG, one scan", "jpg", jpeg_of_one_scan, 6, 2),
    ("JPEG, odd sampling", "jpg", jpeg_odd, 6, 3),
    ("JPEG, several scans", "jpg", jpeg_in_scans, 6, 3),
    ("JPEG, progressive", "jpg", jpeg_progressive, 6, 3),
    ("JPEG, colours", "jpg", jpeg_colours, 6, 2),
    ("JPEG, no tables", "jpg", jpeg_without_tables, 6, 1),
    ("JPEG, EXIF", "jpg", jpeg_exif, 6, 2),
    ("PNG", "png", png, 0, 2),
    # Pillow cuts the lower bytes of colour and of transparency off; here they are rounded.
    ("PNG, 16 bits", "png", lambda rng: png(rng, deep=True), 2, 1),
    ("PNG, turned", "png", png_turned, 0, 2),
    ("GIF", "gif", gif, 0, 2),
    ("BMP", "bmp", bmp, 0, 1),
    ("WebP, lossless", "webp", webp_lossless, 0, 2),
    ("WebP, lossy", "webp", webp_lossy, 4, 1),
]


def over_white(image):
    """8-bit RGB, rounded as `over_white` in `src/decode.rs` does it."""
    if image.mode.startswith("I"):
        image = image.point(lambda level: level / 257).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    out = bytearray()
    data = image.tobytes()
    for at in range(0, len(data), 4):
        alpha = data[at + 3]
        out += bytes((level * alpha + 255 * (255 - alpha) + 127) // 255 for level in data[at : at + 3])
    return Image.frombytes("RGB", image.size, bytes(out))


def by_pillow(data):
    """Its picture in the form of `NAME.rgb`, or nothing where it refuses."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            image = over_white(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, struct.error, zlib.error):
        return None
    return struct.pack("<II", *image.size) + image.tobytes()


def main():
    parser = argparse.ArgumentParser(description="Compares decoders with Pillow.")
    parser.add_argument("program", help="the example decode_all")
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the files, which is not removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(compare(arguments, folder))


def compare(arguments, folder):
    parts = sum(kind[4] for kind in KINDS)
    kind_of, read_by_pillow = {}, set()
    for number, (_, ending, make, _, part) in enumerate(KINDS):
        for index in range(max(1, arguments.files * part // parts)):
            name = f"{number:02}-{index:05}.{ending}"
            data = make(random.Random(f"{arguments.seed} {name}"))
            (folder / name).write_bytes(data)
            kind_of[name] = number
            if reference := by_pillow(data):
                (folder / f"{name}.rgb").write_bytes(reference)
                read_by_pillow.add(name)
    result = subprocess.run([arguments.program, str(folder)], check=True, capture_output=True, text=True)
    rows = [collections.Counter() for _ in KINDS]
    means, broken = [[] for _ in KINDS], []
    for line in result.stdout.splitlines():
        name, word, *rest = line.split("\t")
        if name not in kind_of:
            continue
        number = kind_of[name]
        row, limit = rows[number], KINDS[number][3]
        row["files"] += 1
        if word == "refused":
            row["refused here" if name in read_by_pillow else "refused by both"] += 1
            if name in read_by_pillow:
                broken.append(line)
        elif word == "alone":
            row["refused by Pillow"] += 1
        else:
            largest, mean = int(rest[2]), float(rest[3])
            row["same"] += largest == 0
            row["largest"] = max(row["largest"], largest)
            means[number].append(mean)
            if largest > limit:
                broken.append(line)
                row["broken"] += 1
    columns = ["files", "same", "refused here", "refused by Pillow", "refused by both", "broken", "largest"]
    print(f"| kind | limit | {' | '.join(columns)} | mean |")
    print("|---" * (len(columns) + 3) + "|")
    for (kind, _, _, limit, _), row, mean in zip(KINDS, rows, means):
        average = sum(mean) / max(1, len(mean))
        print(f"| {kind} | {limit} | {' | '.join(str(row[column]) for column in columns)} | {average:.3f} |")
    for line in broken[:40]:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    main()
