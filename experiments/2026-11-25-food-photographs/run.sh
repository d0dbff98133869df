#!/usr/bin/env bash
# Six classes of food photographs, from weights that were trained on CIFAR-10 and from random ones, three seeds each:
# `run.sh GHOSTNET PHOTOS WEIGHTS OUT`. PHOTOS holds `train/CLASS/*` and `val/CLASS/*`; WEIGHTS is a run of GhostNet 0.5x with a first
# convolution of stride 1.
set -euo pipefail
ghostnet=$1 photos=$2 weights=$3 out=$4
here=$(cd "$(dirname "$0")" && pwd)
network=(--set model.width=0.5 --set model.stem_stride=1 --set data.image_size=64)

# The built-in recipe, and the same without its section `[finetune]`.
"$ghostnet" train --config finetune.toml "${network[@]}" --data "$photos" --weights "$weights" --dry-run
for seed in 0 1 2; do
  "$ghostnet" train --config finetune.toml "${network[@]}" --data "$photos" --weights "$weights" --device cpu \
    --out "$out/tuned-$seed" --set "seed=$seed" --no-progress
  "$ghostnet" train --config "$here/scratch.toml" "${network[@]}" --data "$photos" --device cpu \
    --out "$out/scratch-$seed" --set "seed=$seed" --no-progress
done
"$ghostnet" report "$out/tuned-0" "$out/scratch-0" --data "$photos" -o "$out/report.html"
