"""Step time of every detector: as published, with distributions, and with the quality predictor.

    python benchmarks/detectors.py --output benchmarks/detectors.csv

For each detector three models are trained in turn, one step each per round: the published one, the
one with general distributions and no quality predictor, and the distribution-guided one. What the
quality predictor costs is the ratio of the last two; their networks differ in nothing else.
"""

import argparse
import csv
import datetime
import statistics
import time
from pathlib import Path

import keras
import numpy as np

import keras_gflv2
from keras_gflv2.layers import NoQuality

DETECTORS = {
    "retinanet": keras_gflv2.RetinaNet,
    "foveabox": keras_gflv2.FoveaBox,
    "fcos": keras_gflv2.FCOS,
    "atss": keras_gflv2.ATSS,
}
KINDS = {
    "published": {},
    "distributions": {"distribution_guided": True, "quality": NoQuality()},
    "guided": {"distribution_guided": True},
}
FIELDS = ("detector", "kind", "milliseconds", "ratio", "backend", "keras", "size", "date")


def batch(size, count):
    """Random pixels with three boxes per image."""
    random = np.random.default_rng(0)
    corner = random.uniform(0, 0.6, (count, 3, 2)) * size
    boxes = np.concatenate([corner, corner + random.uniform(0.1, 0.4, (count, 3, 2)) * size], -1)
    images = random.uniform(0, 255, (count, size, size, 3)).astype("float32")
    classes = np.tile(np.arange(3, dtype="int32"), (count, 1))
    return images, {"boxes": boxes.astype("float32"), "classes": classes}


def step_times(models, data, rounds):
    """Milliseconds of every step of every model, one after the other in each round."""
    times = {kind: [] for kind in models}
    for round_ in range(rounds + 2):
        for kind, model in models.items():
            start = time.perf_counter()
            model.train_on_batch(*data)
            if round_ >= 2:  # the first ones trace and warm up
                times[kind].append(1000 * (time.perf_counter() - start))
    return times


def measure(name, size, count, rounds):
    """Lines of the CSV for one detector."""
    models = {}
    for kind, arguments in KINDS.items():
        model = DETECTORS[name](keras_gflv2.backbones.ResNet(18), 80, **arguments)
        model.compile(keras.optimizers.SGD(1e-6))
        models[kind] = model
    times = step_times(models, batch(size, count), rounds)
    before = None
    for kind, found in times.items():
        # The ratio of each round, which other work on the machine disturbs least.
        ratios = [b / a for a, b in zip(before, found)] if before else [1.0]
        yield {
            "detector": name,
            "kind": kind,
            "milliseconds": round(statistics.median(found), 1),
            "ratio": round(statistics.median(ratios), 4),
            "backend": keras.backend.backend(),
            "keras": keras.__version__,
            "size": f"{count}x{size}x{size}",
            "date": datetime.date.today().isoformat(),
        }
        before = found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--detectors", nargs="+", choices=DETECTORS, default=list(DETECTORS))
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/detectors.csv"))
    arguments = parser.parse_args()
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for name in arguments.detectors:
            for line in measure(name, arguments.size, arguments.batch_size, arguments.rounds):
                print(line, flush=True)
                writer.writerow(line)
    print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
