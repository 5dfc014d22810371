#!/usr/bin/env bash
# The commands of docs/walk_shapes.md, from the top of a clone, with the package installed.
set -euo pipefail

keras-gflv2 data shapes:train:768 --validation-data shapes:val:128 \
    --output runs/shapes/check

keras-gflv2 data convert shapes:val:128 --output runs/shapes/val.json

keras-gflv2 train --data shapes:train:768 --validation-data shapes:val:128 \
    --backbone resnet18 --base-channels 16 --fpn-channels 48 \
    --head-channels 48 --head-depth 2 --head-norm-groups 8 \
    --image-size 128 128 --epochs 10 --output runs/shapes/detector

keras-gflv2 evaluate --model runs/shapes/detector --data shapes:val:128 \
    --report runs/shapes/report.html

keras-gflv2 predict runs/shapes/val_images --model runs/shapes/detector \
    --score-threshold 0.41 --output runs/shapes/found

keras-gflv2 export --model runs/shapes/detector \
    --output runs/shapes/served/shapes/1

python examples/model_server.py shapes runs/shapes/served/shapes \
    --rest-port 8501 > runs/shapes/server.log 2>&1 &
until grep -qs Serving runs/shapes/server.log; do kill -0 $!; sleep 1; done

keras-gflv2 predict runs/shapes/val_images/000000.png \
    --server http://localhost:8501/shapes --score-threshold 0.41 \
    --output runs/shapes/found_by_server
kill $!
