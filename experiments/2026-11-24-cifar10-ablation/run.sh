#!/usr/bin/env bash
# Every row of the ablation with three seeds, one run after the other: `run.sh GHOSTNET DATA OUT`.
# A run that is there already is not made again; one that was interrupted goes on.
set -euo pipefail
ghostnet=$1 data=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)

row() { # seed, name, then arguments
  local seed=$1 name=$2
  shift 2
  "$ghostnet" train --config "$here/recipe.toml" --data "$data" --device cpu --out "$out/$name-$seed" --set "seed=$seed" "$@" --no-progress
}

for seed in 0 1 2; do
  row "$seed" plain
  row "$seed" smoothing --set train.label_smoothing=0.1
  row "$seed" mixup --set 'train.mixup={alpha=0.2}'
  row "$seed" cutmix --set 'train.cutmix={alpha=1.0}'
  row "$seed" rand_augment --set 'data.train=[{pad_random_crop={padding=4}}, {horizontal_flip={}}, {rand_augment={magnitude=5.0, magnitude_std=0.5, increasing=true}}]'
  row "$seed" ema --set 'train.ema={decay=0.999}'
done
