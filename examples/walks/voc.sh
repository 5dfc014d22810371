#!/usr/bin/env bash
# The commands of docs/walk_voc.md, from the top of a clone, with the package installed.
set -euo pipefail

python examples/walks/make_voc_folder.py runs/voc/data

keras-gflv2 data runs/voc/data --validation-fraction 0.2 --image-size 192 256 \
    --output runs/voc/check

keras-gflv2 train --data runs/voc/data --validation-fraction 0.2 \
    --backbone resnet18 --base-channels 16 --fpn-channels 48 \
    --head-channels 48 --head-depth 2 --head-norm-groups 8 \
    --image-size 192 256 --epochs 15 --output runs/voc/detector

keras-gflv2 evaluate --model runs/voc/detector --data runs/voc/data \
    --validation-fraction 0.2 --report runs/voc/report.html

keras-gflv2 predict runs/voc/data/images --model runs/voc/detector \
    --draw-uncertainties --output runs/voc/found

keras-gflv2 export --model runs/voc/detector --output runs/voc/served/voc/1

python examples/model_server.py voc runs/voc/served/voc --rest-port 8501 \
    > runs/voc/server.log 2>&1 &
until grep -qs Serving runs/voc/server.log; do kill -0 $!; sleep 1; done

keras-gflv2 predict 'runs/voc/data/images/*0.jpg' \
    --server http://localhost:8501/voc --output runs/voc/found_by_server
kill $!
