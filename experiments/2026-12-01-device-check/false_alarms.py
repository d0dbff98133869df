#!/usr/bin/env python3
"""Runs many device checks without a planted fault and counts those that find one: there must be none.

    false_alarms.py GHOSTNET DEVICE CHECKS

Networks, widths, precisions, image sizes, batch sizes and seeds are drawn; the seconds of each check are those of the program. Gradients of
weights that burn's kernels add up in 16 bits are a fault of theirs, and counted apart.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile

program, device, checks = sys.argv[1], sys.argv[2], int(sys.argv[3])
draw = random.Random(1)
seconds, alarms, half_sums = [], [], 0
recipe = tempfile.NamedTemporaryFile("w", suffix=".toml", delete=False)
recipe.write(
    '[data]\nsource = "fashion-mnist-sample"\nbatch_size = 4\nimage_size = 32\ntrain = [{ random_resized_crop = {} }]\n'
    "val = [{ resize_center_crop = { crop_pct = 1.0 } }]\n[train]\ntotal = { epochs = 1 }\n"
    '[optimizer]\nkind = "adamw"\nlearning_rate = 0.001\n'
)
recipe.close()
for number in range(checks):
    variant = draw.choice(["ghostnet", "ghostnet", "ghostnet_paddle", "ghostnetv2", "ghostnetv3"])
    size = draw.choice([32, 48, 64, 96])
    sets = {
        "model.variant": f'"{variant}"',
        "model.width": draw.choice([0.25, 0.5, 1.0]),
        "model.num_classes": draw.choice([2, 3, 10, 101]),
        "model.stem_stride": draw.choice([1, 2]) if size == 32 else 2,
        "data.image_size": size,
        "data.batch_size": draw.choice([4, 6, 8, 13]) if size < 96 else 4,
        "train.precision": f'"{draw.choice(["f32", "f32", "mixed"])}"',
        "train.checkpoint_activations": draw.choice(["true", "false"]),
    }
    arguments = [item for key, value in sets.items() for item in ("--set", f"{key}={value}")]
    command = [program, "devices", "--check", device, "--config", recipe.name, "--seed", str(number), "--format", "json"]
    found = subprocess.run(command + arguments, capture_output=True, text=True, check=False)
    if found.returncode != 0 or found.stdout == "":
        alarms.append((sets, found.stderr))
        print(number, sets, found.stderr, flush=True)
        continue
    record = json.loads(found.stdout)
    first = record["attempts"][0]["result"]
    seconds.append(first["seconds"])
    known = [fault for fault in first["faults"] if "weight gradient, f16" in fault]
    half_sums += bool(known)
    if len(known) < len(first["faults"]) and not known or len(record["attempts"]) > 1 + bool(known):
        alarms.append((sets, first["faults"]))
        print(number, sets, first["faults"], flush=True)
print(f"{checks} checks, {len(alarms)} false alarms, {half_sums} with sums in 16 bits; a check takes {statistics.median(seconds):.1f} s (median), {max(seconds):.1f} s at most")
sys.exit(1 if alarms else 0)
