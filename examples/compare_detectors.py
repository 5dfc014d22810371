"""Trains every detector of the paper's Table 5 from nothing on generated pictures, with one recipe.

    python examples/compare_detectors.py --output comparison.csv
    python examples/compare_detectors.py --rows fcos fcos+dgqp --seeds 0 1 2

Each row is a detector as it was published and, with `+dgqp`, its distribution-guided form (GFLV2).
A line of the CSV per row and seed: AP, AP50, AP75, the seconds of training and of a step. Rows that
the file has already are left out, so an interrupted comparison goes on where it stopped.
"""

import argparse
import csv
import datetime
import statistics
import time
from pathlib import Path

import keras

import keras_gflv2
from keras_gflv2 import recipes
from keras_gflv2.data import load_shapes
from keras_gflv2.evaluation import evaluate_coco

DETECTORS = {
    "retinanet": keras_gflv2.RetinaNet,
    "foveabox": keras_gflv2.FoveaBox,
    "fcos": keras_gflv2.FCOS,
    "atss": keras_gflv2.ATSS,
}
ROWS = [f"{name}{guided}" for name in DETECTORS for guided in ("", "+dgqp")]
# The recipe of all rows.
NUM_IMAGES, BATCH_SIZE, EPOCHS = 768, 8, 10
LEARNING_RATE, BETA_2 = 3e-3, 0.99
NUM_VALIDATION_IMAGES = 128
FIELDS = ("row", "seed", "AP", "AP50", "AP75", "seconds", "backend", "keras", "date")


def build(row, class_names):
    """The detector of a row: a ResNet-18 of a quarter of the width, for 128 x 128 pixels."""
    name, _, guided = row.partition("+")
    return DETECTORS[name](
        keras_gflv2.backbones.ResNet(
            depth=18, base_channels=16, batch_norm_statistics="batch", zero_init_residual=False
        ),
        num_classes=len(class_names),
        distribution_guided=guided == "dgqp",
        fpn_channels=48,
        head_channels=48,
        head_depth=2,
        head_norm_groups=8,
        class_names=class_names,
        image_size=(128, 128),
    )


def train(row, seed):
    """Trains and scores one row: a dictionary of `FIELDS`."""
    keras.utils.set_random_seed(seed)
    train_ds = load_shapes(
        "train",
        num_images=NUM_IMAGES,
        objects=(3, 8),
        batch_size=BATCH_SIZE,
        train=True,
        seed=seed,
    )
    val_ds = load_shapes("val", num_images=NUM_VALIDATION_IMAGES, batch_size=BATCH_SIZE)
    model = build(row, train_ds.class_names)
    plan = recipes.get("scratch").plan(
        NUM_IMAGES, BATCH_SIZE, epochs=EPOCHS, learning_rate=LEARNING_RATE
    )
    model.compile(plan.optimizer(model, beta_2=BETA_2))
    start = time.monotonic()
    model.fit(train_ds, epochs=EPOCHS, shuffle=False, verbose=2)
    seconds = time.monotonic() - start
    metrics = evaluate_coco(model, val_ds, verbose=0)
    return {
        "row": row,
        "seed": seed,
        **{name: round(metrics[name], 4) for name in ("AP", "AP50", "AP75")},
        "seconds": round(seconds, 1),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "date": datetime.date.today().isoformat(),
    }


def read(path):
    """Lines of a CSV of an earlier run."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def table(lines):
    """Markdown table of the mean and the spread of AP over the seeds of each row."""
    text = ["| detector | seeds | AP: mean | lowest | highest |", "|---|---|---|---|---|"]
    for row in ROWS:
        found = [float(line["AP"]) for line in lines if line["row"] == row]
        if found:
            numbers = (statistics.mean(found), min(found), max(found))
            cells = [row, str(len(found)), *(f"{number:.3f}" for number in numbers)]
            text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("comparison.csv"))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for row in arguments.rows:
            lines = read(arguments.output)
            if any(line["row"] == row and int(line["seed"]) == seed for line in lines):
                continue
            result = train(row, seed)
            print(result, flush=True)
            with arguments.output.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if not lines:
                    writer.writeheader()
                writer.writerow(result)
            keras.backend.clear_session()
    print(table(read(arguments.output)))
    print(f"Wrote {arguments.output}")


if __name__ == "__main__":
    main()
