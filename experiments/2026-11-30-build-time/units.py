"""Sums the unit seconds of a `cargo build --timings` report by family and lists the crates that take longest.

python units.py target/cargo-timings/cargo-timing.html [CRATES]
"""

import collections
import json
import sys

FAMILIES = [
    ("burn-flex", "burn-flex"), ("burn-dispatch", "burn-dispatch"), ("burn on GPUs", "burn-cubecl"), ("burn on GPUs", "burn-wgpu"),
    ("burn on GPUs", "burn-fusion"), ("burn, the rest", "burn"), ("cubecl and pliron", "cubecl"), ("cubecl and pliron", "pliron"),
    ("cubek", "cubek"), ("wgpu and naga", "wgpu"), ("wgpu and naga", "naga"), ("gemm", "gemm"), ("tract", "tract"), ("turso", "turso"),
    ("this workspace", "ghostnet"), ("this workspace", "trainer"), ("this workspace", "imageset"), ("this workspace", "foreign-weights"),
]

text = open(sys.argv[1], encoding="utf-8").read()
start = text.index("const UNIT_DATA = ") + len("const UNIT_DATA = ")
units = json.JSONDecoder().raw_decode(text[start:])[0]
crates, families = collections.Counter(), collections.Counter()
for unit in units:
    crates[unit["name"]] += unit["duration"]
for crate, seconds in crates.items():
    families[next((family for family, prefix in FAMILIES if crate.startswith(prefix)), "the rest")] += seconds
print(f"{len(units)} units, {sum(crates.values()):.0f} unit seconds, {max(u['start'] + u['duration'] for u in units):.0f} s")
for family, seconds in families.most_common():
    print(f"{seconds:6.0f}  {family}")
for crate, seconds in crates.most_common(int(sys.argv[2]) if len(sys.argv) > 2 else 20):
    print(f"{seconds:6.1f}  {crate}")
