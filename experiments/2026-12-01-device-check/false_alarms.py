#!/usr/bin/env python3
"""Runs many device checks without a planted fault and counts those that find one: there must be none.

    false_alarms.py GHOSTNET DEVICE CHECKS

Networks, widths, precisions, image sizes, batch sizes and seeds are drawn; the seconds of each check are those of the program.
"""

import json
import random
import statistics
import subprocess
import sys

program, device, checks = sys.argv[1], sys.argv[2], int(sys.argv[3])
draw = random.Random(1)
seconds, alarms = [], []
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
    command = [program, "devices", "--check", device, "--config", "ghostnet_1x.toml", "--seed", str(number), "--format", "json"]
    found = subprocess.run(command + arguments, capture_output=True, text=True, check=False)
    if found.returncode != 0 or found.stdout == "":
        alarms.append((sets, found.stderr))
        print(number, sets, found.stderr, flush=True)
        continue
    record = json.loads(found.stdout)
    first = record["attempts"][0]["result"]
    seconds.append(first["seconds"])
    if first["faults"]:
        alarms.append((sets, first["faults"]))
        print(number, sets, first["faults"], flush=True)
print(f"{checks} checks, {len(alarms)} alarms; a check takes {statistics.median(seconds):.1f} s (median), {max(seconds):.1f} s at most")
sys.exit(1 if alarms else 0)
