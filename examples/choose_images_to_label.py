"""Ranks unlabeled images by how much their labels would tell a detector.

    python examples/choose_images_to_label.py --model runs/first --images photos --output rank.csv
    python examples/choose_images_to_label.py --simulate BCCD --output chosen.csv --seeds 0 1 2

The gain of an image is the information in its labels, in bits, about what the detector believes.
For a detection of confidence p whose sides have the standard deviations s (its "uncertainties"),

    gain = H(p) + p * sum over the four sides of 1/2 log2(1 + (s / (LABEL_NOISE * size))^2)

H(p), the binary entropy, is what the answer "there is an object" or "there is none" tells. If there
is one, a side that is normal with the deviation s and labeled with the noise LABEL_NOISE * size
(size is the width or height of the box) is worth its mutual information with the label. The gain of
an image is the sum over its detections, for labels that cost as much for each image. With
`--per object` it is their mean, for labels that cost as much for each object, and with `--per
class` a bit about a class counts the more, the fewer bits all images together hold about it: AP is
the mean over classes, of which a sum over detections sees the common ones alone. Objects of which
the detector has no idea count for nothing, and its confidence is taken for a probability.

`--simulate` hides the labels of a Pascal VOC folder and measures what that is worth: it trains on a
small random set, labels more images by their gain or at random, trains on, and appends AP as a row
to the CSV file. Rows that the file has already are left out, so an interrupted run goes on.
"""

import argparse
import csv
import datetime
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_gflv2
from keras_gflv2 import recipes
from keras_gflv2.cli.sources import load_model
from keras_gflv2.data import Augmentation

LABEL_NOISE = 0.05  # how far labels of people are off, as a share of the size of the box
SCORE_THRESHOLD = 0.05
PER = ("image", "object", "class")
# The simulation: shares of the images that are labeled, and the training of all rows.
FIRST_SHARE, LAST_SHARE = 0.1, 0.25
IMAGE_SIZE, BATCH_SIZE = (144, 192), 4
FIRST_EPOCHS, LAST_EPOCHS = 60, 32
LEARNING_RATE, BETA_2 = 3e-3, 0.99
FIELDS = ("strategy", "seed", "images", "objects", "AP", "AP50", "AP75", "seconds", "backend",
          "keras", "date")  # fmt: skip


def main(arguments=None):
    arguments = parse(arguments)
    if arguments.simulate:
        simulate(arguments.simulate, arguments.output, arguments.seeds, arguments.strategies)
        return
    paths = image_paths(arguments.images)
    gains = gains_of(load_model(arguments.model), paths, arguments.per)
    order = np.argsort(-gains, kind="stable")[: arguments.count]
    with arguments.output.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["rank", "gain", "image"])
        writer.writerows([k, f"{gains[i]:.4f}", paths[i]] for k, i in enumerate(order, start=1))
    print(f"Wrote {len(order)} of {len(paths)} images, the best first, to {arguments.output}")


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a detector with distributions, as of keras-gflv2 predict")
    parser.add_argument("--images", nargs="+", type=Path, help="image files or folders of them")
    parser.add_argument("--per", choices=PER, default="image", help="what gains are summed over")
    parser.add_argument("--count", type=int, help="write only so many images")
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    parser.add_argument("--simulate", type=Path, metavar="VOC_DIR", help="folder of Pascal VOC")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    arguments = parser.parse_args(arguments)
    if not arguments.simulate and not (arguments.model and arguments.images):
        parser.error("--model and --images are needed, or --simulate.")
    return arguments


# === Ranking ===


def gains_of(model, paths, per="image"):
    """Expected gain (n,) of the labels of images: bits, or with "class" the share of all gain."""
    found = model.detect(paths, score_threshold=SCORE_THRESHOLD)
    if "uncertainties" not in found[0]:
        raise ValueError("The detector needs boxes as general distributions, such as GFLV2's.")
    gains = [detection_gains(f["confidence"], f["boxes"], f["uncertainties"]) for f in found]
    if per == "class":
        count = 1 + max((int(f["classes"].max()) for f in found if len(f["classes"])), default=0)
        sums = [np.bincount(f["classes"], g, minlength=count) for f, g in zip(found, gains)]
        return (sums / np.maximum(np.sum(sums, axis=0), 1e-12)).mean(axis=1)
    return np.array([g.sum() if per == "image" else g.sum() / max(len(g), 1) for g in gains])


def detection_gains(confidence, boxes, uncertainties):
    """Information (n,) in bits that the labels of detections give; see the text above.

    Args:
        confidence: (n,) in 0..1.
        boxes: (n, 4) xyxy.
        uncertainties: (n, 4) standard deviations of their sides, in the same pixels.
    """
    p, boxes = (np.asarray(values, "float64") for values in (confidence, boxes))
    size = np.tile(np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0), 2)  # along each side's own axis
    ratio = np.asarray(uncertainties, "float64") / (LABEL_NOISE * size)
    location = 0.5 * np.log2(1 + ratio**2).sum(axis=1)
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return -q * np.log2(q) - (1 - q) * np.log2(1 - q) + p * location


def image_paths(names):
    """The files that are named, and those in the folders that are."""
    paths = []
    for name in names:
        suffixes = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
        inside = sorted(name.iterdir()) if name.is_dir() else [name]
        paths += [path for path in inside if not name.is_dir() or path.suffix.lower() in suffixes]
    if not paths:
        raise ValueError(f"There is no image in {', '.join(map(str, names))}.")
    return paths


# === Simulation ===


def at_random(model, paths, count, rng):
    return rng.choice(len(paths), count, replace=False)


def by_gain_per_image(model, paths, count, rng):
    return np.argsort(-gains_of(model, paths), kind="stable")[:count]


def by_gain_per_object(model, paths, count, rng):
    return np.argsort(-gains_of(model, paths, "object"), kind="stable")[:count]


def by_gain_per_class(model, paths, count, rng):
    return np.argsort(-gains_of(model, paths, "class"), kind="stable")[:count]


STRATEGIES = {
    "random": at_random,
    "gain per image": by_gain_per_image,
    "gain per object": by_gain_per_object,
    "gain per class": by_gain_per_class,
}


def simulate(directory, output, seeds, strategies):
    """Trains what is missing in `output`; weights of the first detectors are kept beside it."""
    rows = read(output)
    done = {(row["strategy"], int(row["seed"])) for row in rows}
    missing = [(s, seed) for seed in seeds for s in strategies if (s, seed) not in done]
    for strategy, seed in missing:
        names = (directory / "ImageSets/Main/train.txt").read_text().split()
        rng = np.random.default_rng(seed)
        names = list(rng.permutation(names))
        first, last = (round(share * len(names)) for share in (FIRST_SHARE, LAST_SHARE))
        weights = output.with_name(f"{output.stem}_first_{seed}.weights.h5")
        if not weights.exists():
            model, row = train(directory, names[:first], seed, FIRST_EPOCHS)
            model.save_weights(weights)
            if ("first set", seed) not in done:
                append(output, {"strategy": "first set", "seed": seed, **row})
        model = build(3)
        model.load_weights(weights)
        unlabeled = names[first:]
        paths = [directory / "JPEGImages" / f"{name}.jpg" for name in unlabeled]
        chosen = STRATEGIES[strategy](model, paths, last - first, rng)
        labeled = names[:first] + [unlabeled[index] for index in chosen]
        _, row = train(directory, labeled, seed, LAST_EPOCHS, weights)
        append(output, {"strategy": strategy, "seed": seed, **row})
    print(summary(read(output)))


def build(num_classes):
    return keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(18, base_channels=16, batch_norm_statistics="batch"),
        num_classes=num_classes,
        fpn_channels=48,
        head_channels=48,
        head_depth=2,
        head_norm_groups=8,
        image_size=IMAGE_SIZE,
    )


def train(directory, names, seed, epochs, weights=None):
    """The detector of some labeled images, and what the row says of it."""
    keras.utils.set_random_seed(seed)
    val_ds = keras_gflv2.data.load_voc(directory, "val", batch_size=8, image_size=IMAGE_SIZE)
    model = build(len(val_ds.class_names))
    if weights is not None:
        model.load_weights(weights)
    plan = recipes.get("scratch").plan(
        len(names), BATCH_SIZE, epochs=epochs, learning_rate=LEARNING_RATE
    )
    model.compile(plan.optimizer(model, beta_2=BETA_2))
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        train_ds = labeled_images(Path(folder), directory, names, seed)
        model.fit(train_ds, epochs=epochs, shuffle=False, verbose=2)
    seconds = time.process_time() - start
    metrics = keras_gflv2.evaluation.evaluate_coco(model, val_ds, verbose=0)
    return model, {
        "images": len(names),
        "objects": count_objects(directory, names),
        **{name: round(metrics[name], 4) for name in ("AP", "AP50", "AP75")},
        "seconds": round(seconds, 1),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "date": datetime.date.today().isoformat(),
    }


def labeled_images(folder, directory, names, seed):
    """The training dataset of some images of a Pascal VOC folder; its list is in another folder."""
    for part in ("Annotations", "JPEGImages"):
        (folder / part).symlink_to((directory / part).resolve())
    (folder / "ImageSets/Main").mkdir(parents=True)
    (folder / "ImageSets/Main/labeled.txt").write_text("\n".join(names))
    return keras_gflv2.data.load_voc(
        folder,
        "labeled",
        batch_size=BATCH_SIZE,
        image_size=IMAGE_SIZE,
        augmentation=Augmentation(horizontal_flip=0.5, vertical_flip=0.5, scale=(0.8, 1.25)),
        train=True,
        seed=seed,
    )


def count_objects(directory, names):
    texts = ((directory / "Annotations" / f"{name}.xml").read_text() for name in names)
    return sum(text.count("<object>") for text in texts)


def read(path):
    """Rows of a CSV file of an earlier run."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path, row):
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
    print(row, flush=True)


def summary(rows):
    """Mean AP of each strategy, and its paired difference from random labels over the seeds."""
    found = {}
    for row in rows:
        found.setdefault(row["strategy"], {})[row["seed"]] = float(row["AP"])
    lines = ["| labeled | seeds | AP: mean | spread | less random: mean | spread | p |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for strategy, scores in found.items():
        seeds = [seed for seed in scores if seed in found.get("random", {})]
        cells = [strategy, str(len(scores)), *spread(list(scores.values()))]
        if strategy in STRATEGIES and strategy != "random" and len(seeds) > 1:
            differences = [scores[seed] - found["random"][seed] for seed in seeds]
            cells += [*spread(differences), f"{paired_p(differences):.2f}"]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values):
    """Mean and standard deviation as text."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    return f"{np.mean(values):.4f}", f"{deviation:.4f}"


def paired_p(differences):
    """p-value of Student's t-test of paired values."""
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(differences, 0.0).pvalue)


if __name__ == "__main__":
    main()
