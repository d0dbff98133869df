#!/usr/bin/env bash
# The runs of this page: `run.sh GHOSTNET CIFAR10 PHOTOS OUT`. CIFAR10 as JPEG and PHOTOS as in the two experiments that it repeats.
set -euo pipefail
ghostnet=$1 cifar10=$2 photos=$3 out=$4
experiments=$(cd "$(dirname "$0")/.." && pwd)

"$experiments/2026-11-24-cifar10-ablation/run.sh" "$ghostnet" "$cifar10" "$out"
"$experiments/2026-11-25-food-photographs/run.sh" "$ghostnet" "$photos" "$out/ema-0" "$out/food-ema-0"
for weights in smoothing-0 smoothing-1 smoothing-2; do
  for seed in 0 1 2; do
    "$ghostnet" train --config finetune.toml --set model.width=0.5 --set model.stem_stride=1 --set data.image_size=64 \
      --data "$photos" --weights "$out/$weights" --device cpu --out "$out/food-$weights-$seed" --set "seed=$seed" --no-progress
  done
done
