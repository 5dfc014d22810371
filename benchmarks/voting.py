"""AP of a detector with plain NMS and with the ways to vote on boxes, as rows of a CSV file.

    python benchmarks/voting.py --model nano_bccd --data voc:../shared/data/bccd:val \
        --output benchmarks/voting.csv

Rows: plain NMS; the score-weighted mean; the mean weighted by the IoU, and that divided by the
variance of each side, for several sigmas. "paired_p" is that of a sign-flip test of the mean IoU
per image of the detections that match an object, against plain NMS: how likely so large a
difference is by chance.
"""

import argparse
import csv
import datetime
from pathlib import Path

import keras
import numpy as np

from keras_gflv2.boxes import iou
from keras_gflv2.cli.sources import load_data, load_model
from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.coco import coco_metrics, match_detections
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.postprocessing import PredictionDecoder

SIGMAS = (0.005, 0.01, 0.02, 0.05)
FLIPS = 10_000


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="as of keras-gflv2 evaluate")
    parser.add_argument("--data", required=True, help="as of keras-gflv2 evaluate")
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    options = {"class_names": model.class_names, "padding_color": model.padding_color}
    dataset = load_data(arguments.data, batch_size=8, image_size=tuple(model.image_size), **options)
    kinds = [(None, 0.02), ("score", 0.02)]
    kinds += [(kind, sigma) for kind in ("iou", "variance") for sigma in SIGMAS]
    rows, plain = [], None
    for kind, sigma in kinds:
        row, of_images = measure(model, dataset, kind, sigma)
        plain = of_images if plain is None else plain
        shared = sorted(set(plain) & set(of_images))
        differences = [of_images[image] - plain[image] for image in shared]
        rows.append(
            {
                "model": arguments.model,
                "data": arguments.data.split(":")[-1],
                "box_voting": kind or "none",
                "sigma": sigma if kind in ("iou", "variance") else "",
                **row,
                "iou_difference": f"{np.mean(differences):.5f}",
                "paired_p": f"{sign_flip_p(differences):.4f}" if kind else "",
                "backend": keras.backend.backend(),
                "date": datetime.date.today().isoformat(),
            }
        )
        print(rows[-1], flush=True)
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure(model, dataset, kind, sigma):
    """Metrics of one way to vote, and {image: mean IoU of its matched detections}."""
    config = model.prediction_decoder.get_config()
    config |= {"box_voting": kind, "voting_sigma": sigma}
    model.prediction_decoder = PredictionDecoder.from_config(config)
    model.predict_function = model.one_device_prediction = None  # compiled with the old decoder
    images = detect_dataset(model, dataset, verbose=0)
    class_names = class_names_of(model, dataset)
    metrics = coco_metrics(images, class_names)
    matches = match_detections(images, class_names)
    overlaps = iou(*map(keras.ops.convert_to_tensor, (matches.boxes, matches.true_boxes)))
    overlaps = keras.ops.convert_to_numpy(overlaps)
    row = {name: f"{metrics[name]:.5f}" for name in ("AP", "AP50", "AP75")}
    row["iou"] = f"{overlaps.mean():.5f}"
    images = np.unique(matches.images)
    return row, {int(image): overlaps[matches.images == image].mean() for image in images}


def sign_flip_p(differences):
    """Two-sided p-value: how often random signs give a mean as far from 0."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (FLIPS, len(differences)))
    means = np.abs((signs * differences).mean(axis=1))
    return (1 + (means >= abs(np.mean(differences))).sum()) / (1 + FLIPS)


if __name__ == "__main__":
    main()
