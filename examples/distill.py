"""What localization distillation is worth on BCCD: a small student with a teacher and without.

    python examples/distill.py --data-dir BCCD --teacher nano_bccd --seeds 0 1 2 --csv distill.csv

Each seed trains one student twice, from the same weights on the same batches. Every training adds
its row to the CSV when it is done; rows that are there are not repeated. Prints a table of all
pairs in the CSV with means, spread and a paired t-test over the seeds; see docs/distillation.md.
"""

import argparse
import csv
import itertools
import time
from pathlib import Path

import keras
import numpy as np
from scipy import stats

import keras_gflv2
from keras_gflv2.data import Augmentation, load_voc
from keras_gflv2.evaluation import evaluate_coco
from keras_gflv2.training import distill

FLIPS = Augmentation(horizontal_flip=0.5, vertical_flip=0.5, rotate90=0.5)
ARMS = ("without", "distilled")
METRICS = ("AP", "AP50", "AP75")


def build_student(class_names, image_size):
    """A ResNet-18 a quarter as wide as usual, with a narrow pyramid and head."""
    return keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(18, base_channels=16, batch_norm_statistics="batch"),
        num_classes=len(class_names),
        fpn_channels=32,
        head_channels=32,
        head_depth=1,
        head_norm_groups=4,
        class_names=class_names,
        image_size=image_size,
    )


def train(arm, seed, given):
    """One training; returns its row."""
    teacher = keras_gflv2.GFLV2.from_preset(given.teacher) if arm == "distilled" else None
    keras.utils.set_random_seed(seed)
    options = {"image_size": tuple(given.image_size)}
    train_ds = load_voc(
        given.data_dir, "train", batch_size=5, augmentation=FLIPS, train=True, seed=seed, **options
    )
    val_ds = load_voc(given.data_dir, "val", batch_size=8, **options)
    student = build_student(train_ds.class_names, **options)
    student.compile(recipe="scratch")
    if teacher:
        distill(student, teacher, temperature=given.temperature, weight=given.weight)
    start = time.time()
    logs = student.fit(train_ds, epochs=given.epochs, verbose=2).history
    seconds = time.time() - start
    metrics = evaluate_coco(student, val_ds, verbose=0)
    return {
        "arm": arm,
        "seed": seed,
        **{name: round(float(metrics[name]), 4) for name in METRICS},
        "loss": round(logs["loss"][-1], 4),
        "distillation_loss": round(logs.get("localization_distillation_loss", [0])[-1], 4),
        "seconds": round(seconds),
        "parameters": student.count_params(),
        **settings(given),
    }


def settings(given):
    """What makes rows comparable."""
    names = ("teacher", "temperature", "weight", "epochs", "image_size")
    values = {name: getattr(given, name) for name in names}
    return {**values, "image_size": "x".join(map(str, given.image_size))}


def read_rows(path, given):
    """Rows of earlier runs with these settings."""
    if not path.is_file():
        return []
    wanted = {name: str(value) for name, value in settings(given).items()}
    with path.open(newline="") as file:
        return [r for r in csv.DictReader(file) if {k: r[k] for k in wanted} == wanted]


def append(path, row):
    is_new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def report(rows):
    """Prints Markdown: the runs, and mean and sample deviation of the seeds that have both arms."""
    found = {(r["arm"], int(r["seed"])): {m: float(r[m]) for m in METRICS} for r in rows}
    pairs = sorted({seed for _, seed in found if all((arm, seed) in found for arm in ARMS)})
    arms = {arm: np.array([list(found[arm, s].values()) for s in pairs]) for arm in ARMS}
    arms["gain"] = arms["distilled"] - arms["without"]
    print("|  | " + " | ".join(METRICS) + " |\n|---|" + "---|" * len(METRICS))
    for index, seed in enumerate(pairs):
        cells = (" / ".join(f"{arms[arm][index, m]:.4f}" for arm in ARMS) for m in range(3))
        print(f"| seed {seed}: {' / '.join(ARMS)} | {' | '.join(cells)} |")
    if len(pairs) < 2:
        return
    for arm, values in arms.items():
        cells = (f"{v.mean():.4f} ± {v.std(ddof=1):.4f}" for v in values.T)
        print(f"| {arm}, mean ± deviation of {len(pairs)} seeds | {' | '.join(cells)} |")
    tests = (stats.ttest_1samp(gain, 0.0).pvalue for gain in arms["gain"].T)
    print(f"| p, paired t-test | {' | '.join(f'{p:.3f}' for p in tests)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="Pascal VOC folder")
    parser.add_argument("--teacher", default="nano_bccd", help="preset")
    parser.add_argument("--temperature", type=float, default=10.0)
    parser.add_argument("--weight", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, nargs=2, default=(240, 320))
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--csv", type=Path, default="distill.csv")
    given = parser.parse_args()
    for seed, arm in itertools.product(given.seeds, ARMS):
        rows = read_rows(given.csv, given)
        if not any((r["arm"], r["seed"]) == (arm, str(seed)) for r in rows):
            append(given.csv, train(arm, seed, given))
    report(read_rows(given.csv, given))


if __name__ == "__main__":
    main()
