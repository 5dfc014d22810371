"""Images a second that the input pipeline delivers, against those that a training step takes.

    python benchmarks/pipeline.py --data voc:BCCD:train

Each is measured alone, with all cores, in turn. Prints rows, and adds them to
benchmarks/pipeline.csv.
"""

import argparse
import datetime
import os
import statistics
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from serving_load import append

import keras_gflv2
from keras_gflv2.cli.sources import load_data
from keras_gflv2.data import Augmentation

MOVES = {"vertical_flip": 0.5, "rotate90": 0.5, "scale": (0.7, 1.4)}
COLOURS = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.05}
# Of the sizes of BCCD's finetuning and of the paper.
SIZES = {
    "240x320": {
        "image_size": (240, 320),
        "batch_size": 4,
        "augmentations": {
            "flip": {},
            "flip, scale, rotate": MOVES,
            "flip, scale, rotate, colour": MOVES | COLOURS,
            "flip, scale, rotate, mosaic 0.5": MOVES | {"mosaic": 0.5},
        },
    },
    "800x1333": {
        "image_size": (800, 1333),
        "batch_size": 2,
        "augmentations": {"flip": {}, "flip, scale, rotate": MOVES},
    },
}


def pipeline_rate(data, size, augmentation, cache, batches):
    """Images a second of the pipeline alone, after its first pass over the data."""
    dataset = load_data(
        data,
        image_size=size["image_size"],
        batch_size=size["batch_size"],
        augmentation=Augmentation(**augmentation),
        train=True,
        seed=0,
        cache=cache,
    )
    iterator = iter(dataset.repeat())
    for _ in range(len(dataset) if cache else 4):
        next(iterator)
    began = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return batches * size["batch_size"] / (time.perf_counter() - began)


def step_rate(model, size, steps):
    """Images a second of training steps on one batch that is there already."""
    height, width = (-(-side // 32) * 32 for side in size["image_size"])
    count = size["batch_size"]
    images = np.random.default_rng(0).uniform(0, 255, (count, height, width, 3)).astype("float32")
    boxes = np.tile(np.float32([20, 30, 120, 150]), (count, 8, 1))
    targets = {"boxes": boxes, "classes": np.zeros((count, 8), "int32")}
    model.compile()
    times = []
    for _ in range(steps + 2):
        began = time.perf_counter()
        model.train_on_batch(images, targets)
        times.append(time.perf_counter() - began)
    return count / statistics.median(times[2:])


def models():
    """The detector that each size is for."""
    nano = keras_gflv2.GFLV2.from_preset("nano_bccd")
    r50 = keras_gflv2.GFLV2.from_preset("r50_coco", load_weights=False)
    return {"240x320": ("nano_bccd", nano), "800x1333": ("r50_coco", r50)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()

    def report(what, size, rate):
        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        row = {"size": size, "what": what, "images_per_second": round(rate, 2), **versions}
        row = {**row, "cores": os.cpu_count(), "date": datetime.date.today().isoformat()}
        append(Path(__file__).with_suffix(".csv"), row)

    detectors = models()
    for name, size in SIZES.items():
        preset, model = detectors[name]
        batches = arguments.batches if name == "240x320" else arguments.batches // 3
        for title, augmentation in size["augmentations"].items():
            for cache in (False, True):
                rate = pipeline_rate(arguments.data, size, augmentation, cache, batches)
                kept = "decoded images kept" if cache else "decoding JPEG files"
                report(f"pipeline: {title}; {kept}", name, rate)
        steps = arguments.steps if name == "240x320" else 3
        report(f"training step of {preset}", name, step_rate(model, size, steps))


if __name__ == "__main__":
    main()
