"""AP of a detector on mosaics of photos: whole, and in tiles at the same scale.

    python benchmarks/tiles.py --model nano_bccd --data voc:../shared/data/bccd:val \
        --output benchmarks/tiles.csv

Photos of one size are put together to mosaics of COLUMNS x COLUMNS. Each is looked at whole, in one
piece as large as the detector sees it, and in tiles by which borders run through photos and
objects; everything at the scale of a single photo. Rows "photos" are the photos by themselves.
"AP_all" counts all detections of an image, where "AP" counts 100 of each class.
"""

import argparse
import collections
import csv
import datetime
from pathlib import Path

import keras
import numpy as np

from keras_gflv2.cli.sources import load_data, load_model
from keras_gflv2.evaluation.coco import coco_metrics
from keras_gflv2.evaluation.detections import EvaluatedImage
from keras_gflv2.images import resize_shape

COLUMNS = (1, 2, 4)
TILES = (None, (480, 640), 640, 400)
OVERLAPS = (0.2, 0.4)
SIDES = ("AP", "AP50", "AP75", "AP_all")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="as of keras-gflv2 evaluate")
    parser.add_argument("--data", required=True, help="as of keras-gflv2 evaluate")
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    config = model.prediction_decoder.get_config()
    photos = read_photos(model, arguments.data)
    scale = resize_shape(photos[0][0].shape[:2], model.image_size)[0] / photos[0][0].shape[0]
    rows = []
    for columns in COLUMNS:
        mosaics = make_mosaics(photos, columns)
        for tile in TILES if columns > 1 else (None,):
            for overlap in OVERLAPS if tile else (None,):
                # A whole mosaic has as many detections as its photos would have.
                limit = config["max_detections"] * (1 if tile else columns**2)
                pre_nms = config["pre_nms_topk"] * (1 if tile else columns**2)
                changes = {"max_detections": limit, "pre_nms_topk": pre_nms}
                model.prediction_decoder = type(model.prediction_decoder)(**config | changes)
                model.predict_function = model.one_device_prediction = None
                metrics = score(model, mosaics, tile, overlap, scale)
                rows.append(
                    {
                        "model": arguments.model,
                        "data": arguments.data.split(":")[-1],
                        "mosaic": f"{columns}x{columns}" if columns > 1 else "photos",
                        "images": len(mosaics),
                        "tile": "x".join(map(str, np.atleast_1d(tile))) if tile else "whole",
                        "overlap": overlap or "",
                        **{name: f"{metrics.get(name, metrics['AP']):.4f}" for name in SIDES},
                        "backend": keras.backend.backend(),
                        "date": datetime.date.today().isoformat(),
                    }
                )
                print(rows[-1])
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_photos(model, data):
    """Tuples of pixels (H, W, 3), boxes (n, 4) xyxy and classes (n,) of the most frequent size."""
    dataset = load_data(data, batch_size=1, image_size=(480, 640), class_names=model.class_names)
    photos = []
    for batch in dataset:
        pixels, boxes, classes = (
            np.asarray(value)[0]
            for value in (
                batch["images"],
                batch["bounding_boxes"]["boxes"],
                batch["bounding_boxes"]["classes"],
            )
        )
        height, width = np.asarray(batch["image_sizes"])[0]
        photos.append((pixels[:height, :width], boxes[classes >= 0], classes[classes >= 0]))
    sizes = collections.Counter(photo[0].shape for photo in photos)
    size = sizes.most_common(1)[0][0]
    return [photo for photo in photos if photo[0].shape == size]


def make_mosaics(photos, columns):
    """The same for mosaics; photos that fill no whole mosaic are left out."""
    height, width = photos[0][0].shape[:2]
    mosaics = []
    for start in range(0, len(photos) - columns**2 + 1, columns**2):
        group = photos[start : start + columns**2]
        lines = [group[i : i + columns] for i in range(0, len(group), columns)]
        pixels = np.concatenate([np.concatenate([p[0] for p in line], 1) for line in lines])
        offsets = [
            np.float32([column * width, row * height] * 2)
            for row in range(columns)
            for column in range(columns)
        ]
        boxes = np.concatenate([p[1] + at for p, at in zip(group, offsets)])
        mosaics.append((pixels, boxes, np.concatenate([p[2] for p in group])))
    return mosaics


def score(model, mosaics, tile, overlap, scale):
    """COCO's metrics of mosaics that are looked at by a scale."""
    images = []
    for index, (pixels, boxes, classes) in enumerate(mosaics):
        looked_at = np.array(pixels.shape[:2] if tile is None else np.broadcast_to(tile, 2))
        size = np.round(looked_at * scale).astype(int)
        options = {"tile": tile, "overlap": overlap} if tile else {}
        (found,) = model.detect(pixels, 0.0, (int(min(size)), int(max(size))), **options)
        images.append(
            EvaluatedImage(
                image_id=index,
                height=float(pixels.shape[0]),
                width=float(pixels.shape[1]),
                true_boxes=boxes,
                true_classes=classes.astype("int64"),
                true_ignored=np.zeros(len(boxes), bool),
                true_areas=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
                boxes=found["boxes"],
                classes=found["classes"].astype("int64"),
                scores=found["confidence"],
            )
        )
    return coco_metrics(images, model.class_names)


if __name__ == "__main__":
    main()
