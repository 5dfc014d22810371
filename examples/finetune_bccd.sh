#!/usr/bin/env bash
# What the finetune recipe, averaged weights, mosaic and test-time augmentation are worth on BCCD.
#
#     examples/finetune_bccd.sh BCCD runs/finetune [SEED]
#
# A small detector is trained on generated pictures first, then on BCCD in four ways, each for as
# long; runs that are finished are not repeated, one that was interrupted goes on.
set -euo pipefail
data=$1 output=$2 seed=${3:-0}

train() {  # NAME ARGUMENTS...
  local directory=$output/$1; shift
  [ -d "$directory/preset" ] && return
  if [ -f "$directory/arguments.json" ]; then
    keras-gflv2 train --output "$directory" --resume --verbose 2
  else
    keras-gflv2 train --output "$directory" --verbose 2 "$@"
  fi
}

train shapes --data shapes:train:1000 --recipe scratch --epochs 12 --batch-size 8 \
  --backbone resnet18 --base-channels 16 --fpn-channels 64 --head-channels 64 --head-depth 2 \
  --head-norm-groups 8

bccd=(--model "$output/shapes/preset" --data "voc:$data:train" --validation-data "voc:$data:val"
  --image-size 240 320 --batch-size 4 --epochs 36 --vertical-flip 0.5 --rotate90 0.5 --scale 0.7 1.4
  --seed "$seed")
train "finetune_$seed" "${bccd[@]}" --recipe finetune
train "mosaic_$seed" "${bccd[@]}" --recipe finetune --mosaic 0.5
train "no_ema_$seed" "${bccd[@]}" --recipe finetune --ema 0
train "1x_$seed" "${bccd[@]}" --recipe 1x

python "$(dirname "$0")/measure_tta.py" --data-dir "$data" --output "$output/finetune_bccd_$seed.csv" \
  "$output"/{finetune,mosaic,no_ema,1x}_"$seed"/preset
