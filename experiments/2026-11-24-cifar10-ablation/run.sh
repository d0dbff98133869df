#!/usr/bin/env bash
# Every row of the ablation with three seeds, one run after the other: `run.sh GHOSTNET DATA OUT`.
# A run that is there already is not made again; one that was interrupted goes on.
set -euo pipefail
ghostnet=$1 data=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)

row() { # name, then arguments
  local name=$1
  shift
  for seed in 0 1 2; do
    "$ghostnet" train --config "$here/recipe.toml" --data "$data" --device cpu --out "$out/$name-$seed" --set "seed=$seed" "$@" --no-progress
  done
}

row plain
row smoothing --set train.label_smoothing=0.1
row mixup --set 'train.mixup={alpha=0.2}'
row cutmix --set 'train.cutmix={alpha=1.0}'
row rand_augment --set 'data.train=[{pad_random_crop={padding=4}}, {horizontal_flip={}}, {rand_augment={magnitude=5.0, magnitude_std=0.5, increasing=true}}]'
row ema --set 'train.ema={decay=0.999}'
