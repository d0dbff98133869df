#!/usr/bin/env python3
"""Checks every kernel that tuning could choose, not only the one that it chooses.

    GHOSTNET_TUNE_SOFTWARE=on CUBECL_AUTOTUNE_LEVEL=minimal candidates.py GHOSTNET DEVICE NETWORK...

A NETWORK is a list of keys of the recipe, such as `model.variant="ghostnetv2",model.width=1.3`. GHOSTNET must be built with the feature
`tuning-cache`; Python needs `cbor2`. The first checks tune, and keep for each kind of operation which kernels ran and how long they took. Then
the results are rewritten so that the next kernel that ran is the fastest of each kind, and the checks are repeated, until every kernel has
had its turn. Kernels that the device cannot run (those for cooperative matrices, on software Vulkan) are counted, and so are those that
tuning skips because others promise more.
"""

import collections
import glob
import json
import os
import sqlite3
import subprocess
import sys
import tempfile

import cbor2

program, device, networks = sys.argv[1], sys.argv[2], sys.argv[3:]
folder = tempfile.mkdtemp()
environment = {**os.environ, "XDG_CACHE_HOME": folder, "XDG_RUNTIME_DIR": folder}
recipe = os.path.join(folder, "recipe.toml")
with open(recipe, "w", encoding="utf-8") as file:
    file.write(
        '[data]\nsource = "fashion-mnist-sample"\nbatch_size = 4\nimage_size = 32\ntrain = [{ random_resized_crop = {} }]\n'
        "val = [{ resize_center_crop = { crop_pct = 1.0 } }]\n[train]\ntotal = { epochs = 1 }\n"
        '[optimizer]\nkind = "sgd"\nlearning_rate = 0.1\n'
    )


def check(network):
    command = [program, "devices", "--check", device, "--config", recipe, "--format", "json"]
    command += [item for entry in network.split(",") for item in ("--set", entry)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if found.stdout == "":
        return None, found.stderr
    return json.loads(found.stdout)["attempts"][0]["result"], found.stderr


for network in networks:
    result, errors = check(network)
    if result is None:
        sys.exit(errors)
    print(f"as tuned: {network}: {len(result['operations'])} operations, {len(result['faults'])} faults, {result['seconds']:.0f} s", flush=True)
    for fault in result["faults"]:
        print("   ", fault, flush=True)
[path] = glob.glob(os.path.join(folder, "ghostnet/tuning/*.db"))


def connected():
    """The database, for this program alone: what the engine of the runtime keeps beside it would not match what is written here."""
    database = sqlite3.connect(path)
    database.execute("pragma journal_mode = delete")
    for suffix in ("-wal", "-shm", "-tshm"):
        if os.path.exists(path + suffix):
            os.remove(path + suffix)
    return database


database = connected()
entries, declined, skipped, seen = [], collections.Counter(), collections.Counter(), collections.Counter()
for namespace, key, value in database.execute('select namespace, "key", value from entries').fetchall():
    value = cbor2.loads(value)
    if not isinstance(value, dict) or "results" not in value:
        continue
    outcomes = [outcome["outcome"] for outcome in value["results"]]
    kernels = [(outcome["Ok"]["index"], outcome["Ok"]["name"]) for outcome in outcomes if "Ok" in outcome]
    for outcome in outcomes:
        if "Err" in outcome:
            [(kind, details)] = outcome["Err"].items()
            name = details.get("name", kind) if isinstance(details, dict) else kind
            (skipped if "skip" in kind.lower() else declined)[(namespace.split("-kernel-")[-1], name)] += 1
    entries.append((namespace, key, value, sorted(kernels)))
turns = max(len(kernels) for *_, kernels in entries)
faults = 0
database.close()
for turn in range(turns):
    database = connected()
    with database:
        for namespace, key, value, kernels in entries:
            index, name = kernels[min(turn, len(kernels) - 1)]
            value["fastest_index"] = index
            database.execute('update entries set value = ? where namespace = ? and "key" = ?', (cbor2.dumps(value), namespace, key))
            if turn < len(kernels):
                seen[(namespace.split("-kernel-")[-1], name)] += 1
    database.close()
    for network in networks:
        result, errors = check(network)
        if result is None:
            print(f"turn {turn}: {network}: {errors[-600:]}", flush=True)
            faults += 1
            continue
        faults += len(result["faults"])
        print(f"turn {turn}: {network}: {len(result['operations'])} operations, {len(result['faults'])} faults", flush=True)
        for fault in result["faults"]:
            print("   ", fault, flush=True)
print(f"\n{faults} faults; kernels that were checked, with the number of kinds of operations:")
for (tuner, name), count in sorted(seen.items()):
    print(f"  {tuner:32} {name:40} {count}")
never = {kernel for kernel in declined if kernel not in seen}
print(f"kernels that never ran here: {len(never)}; others that were skipped at least once: {len(set(skipped) - never)}")
for tuner, name in sorted(never):
    print(f"  {tuner:32} {name}")
sys.exit(1 if faults else 0)
