#!/usr/bin/env bash
# The commands of docs/walk_coco.md, from the top of a clone, with the package installed.
set -euo pipefail

python examples/walks/make_coco_file.py runs/toys

keras-gflv2 convert runs/toys/checkpoint.pth --preset gflv1_r18_ld_coco \
    --head-norm-groups 8 --class-names platelet "red cell" "white cell" \
    --output runs/toys/converted

keras-gflv2 data coco:runs/toys/train.json:runs/toys/images \
    --validation-data coco:runs/toys/val.json:runs/toys/images \
    --model runs/toys/converted --image-size 160 160 --output runs/toys/check

keras-gflv2 train --model runs/toys/converted \
    --data coco:runs/toys/train.json:runs/toys/images \
    --validation-data coco:runs/toys/val.json:runs/toys/images \
    --image-size 160 160 --epochs 12 --output runs/toys/detector

keras-gflv2 evaluate --model runs/toys/detector \
    --data coco:runs/toys/val.json:runs/toys/images \
    --report runs/toys/report.html

keras-gflv2 predict 'runs/toys/images/val_*.jpg' --model runs/toys/detector \
    --score-threshold 0.5 --output runs/toys/found

keras-gflv2 export --model runs/toys/detector --output runs/toys/served/toys/1

python examples/model_server.py toys runs/toys/served/toys --rest-port 8501 \
    > runs/toys/server.log 2>&1 &
until grep -qs Serving runs/toys/server.log; do kill -0 $!; sleep 1; done

keras-gflv2 predict 'runs/toys/images/val_*.jpg' \
    --server http://localhost:8501/toys --score-threshold 0.5 \
    --output runs/toys/found_by_server
kill $!
