#!/usr/bin/env python3
"""Trains for 100 and for 2,000 steps and compares what the GPU's runtime has reserved at the end.

    memory.py GHOSTNET DEVICE [SECONDS_OF_A_STEP]
"""

import json
import subprocess
import sys

program, device = sys.argv[1:3]
step_seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0.1
found = []
for steps in (100, 2000):
    command = [program, "bench", "step", "--device", device, "--width", "0.25", "--image-size", "32", "--batch-size", "8"]
    command += ["--seconds", str(steps * step_seconds), "--format", "json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found.append(report["device_memory_bytes"])
    print(f"{report['repetitions']} steps: {report['device_memory_bytes'] / 1e6:.1f} MB", flush=True)
sys.exit(0 if found[0] == found[1] else 1)
