"""How well calibrated uncertainties are on images that they were not calibrated on.

    python benchmarks/uncertainty.py --model nano_bccd --data voc:../shared/data/bccd:val \
        --output benchmarks/uncertainty.csv --picture docs/uncertainty.webp

The images are split into two random halves, ten times: each half is calibrated on the other
(cross-fitting). Means and standard deviations over the twenty halves are written to the CSV file;
beside it, as *_groups.csv, the coverage of sides that should be hard to locate and of others. With
--test the detector is calibrated on all of --data and measured on those images instead.
"""

import argparse
import csv
import dataclasses
import datetime
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_gflv2.cli.sources import load_data, load_model
from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.calibration import calibration_of
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.evaluation.uncertainty import matched_sides, uncertainty_of
from keras_gflv2.intervals import conformal_intervals
from keras_gflv2.visualization import draw_detections

COVERAGES = (0.5, 0.8, 0.9, 0.95)
FIFTHS = ("surest fifth", "second fifth", "third fifth", "fourth fifth", "least sure fifth")
GROUP_COVERAGE = 0.9
COLUMNS, CELL, TITLE = 6, 190, 28  # of the picture; pixels


def main():
    arguments = parse()
    model = load_model(arguments.model)
    model.calibration = None
    about = {"model": arguments.model, "data": arguments.data}
    images, matches = run(model, arguments.data)
    if arguments.test:
        about["data"] += f" on {arguments.test}"
        test_images, test = run(model, arguments.test)
        results = [measure(matches, test, test_images)]
    else:
        results = list(in_halves(images, matches, arguments.repeats))
    about |= {"backend": keras.backend.backend(), "date": datetime.date.today().isoformat()}
    print_sides(results)
    write(arguments.output, [{**about, **row} for row in curve_rows(results)])
    groups = arguments.output.with_name(f"{arguments.output.stem}_groups.csv")
    write(groups, [{**about, **row} for row in group_rows(results)])
    if arguments.picture:
        draw(model, images, matches, arguments)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="as of keras-gflv2 evaluate")
    parser.add_argument("--data", required=True, help="as of keras-gflv2 evaluate")
    parser.add_argument("--test", help="images to measure on, instead of halves of --data")
    parser.add_argument("--repeats", type=int, default=10, help="random splits into halves")
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    parser.add_argument("--picture", type=Path, help="objects with their intervals")
    return parser.parse_args()


def dataset_of(model, spec):
    options = {"class_names": model.class_names, "padding_color": model.padding_color}
    size = tuple(model.image_size)
    return load_data(spec, batch_size=8, image_size=size, **options)


def run(model, spec):
    """The evaluated images of a dataset, and their matches with the raw spread."""
    dataset = dataset_of(model, spec)
    images = detect_dataset(model, dataset, verbose=0)
    return images, matched_sides(images, class_names_of(model, dataset), 0.0)


def in_halves(images, matches, repeats):
    """The results of halves of the images, each calibrated on the other half."""
    rng = np.random.default_rng(0)
    for _ in range(repeats):
        first = rng.permutation(len(images))[: len(images) // 2]
        is_first = np.isin(matches.images, first)
        for half in (is_first, ~is_first):
            yield measure(matches.take(~half), matches.take(half), images)


def measure(calibrated_on, test, images):
    """What a calibration is worth on other images: its report, and rows of groups of sides."""
    calibration = calibration_of(calibrated_on)
    sides = (np.float32(values) for values in (test.uncertainties, test.boxes))
    deviations = keras.ops.convert_to_numpy(calibration.deviations(*sides))
    test = dataclasses.replace(test, uncertainties=deviations)
    table = calibration.get_config()
    report = uncertainty_of(test, table, COVERAGES)
    intervals = conformal_intervals(test.boxes, deviations, GROUP_COVERAGE, table)
    held = (intervals[..., 0] <= test.true_boxes) & (test.true_boxes <= intervals[..., 1])
    errors = np.abs(test.true_boxes - test.boxes)
    constant = errors <= np.quantile(errors, held.mean(), axis=0)
    groups = {
        name: {
            "sides": int(mask.sum()),
            "deviation": deviations[mask].mean(),
            "absolute_error": errors[mask].mean(),
            "coverage": held[mask].mean(),
            "constant_coverage": constant[mask].mean(),
        }
        for name, mask in groups_of(test, images).items()
        if mask.any()
    }
    return {"calibration": calibration, "report": report, "groups": groups}


def groups_of(matches, images):
    """Masks (n, 4) of sides: fifths of the deviation, and where people would look."""
    deviations = matches.uncertainties
    ranks = np.searchsorted(np.quantile(deviations, [0.2, 0.4, 0.6, 0.8]), deviations)
    groups = {name: ranks == index for index, name in enumerate(FIFTHS)}
    at_edge, covered = (np.zeros(deviations.shape, bool) for _ in range(2))
    for row, (index, box) in enumerate(zip(matches.images, matches.true_boxes)):
        image = images[index]
        limits = np.array([0, 0, image.width, image.height])
        at_edge[row] = np.abs(box - limits) < 2  # pixels
        covered[row] = is_covered(box, image.true_boxes)
    is_cut = at_edge.any(axis=1, keepdims=True)
    return {
        **groups,
        "at the edge of the photo": at_edge,
        "free, inside": ~is_cut & ~covered,
        "other sides of objects that the edge cuts": is_cut & ~at_edge,
        "inside of another object": covered & ~at_edge,
    }


def is_covered(box, others):
    """Which sides (4,) of a box have their middle inside of another box."""
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    middles = np.array([[left, y], [x, top], [right, y], [x, bottom]])[:, None]
    others = others[np.abs(others - box).max(axis=1) > 1e-3]
    return ((others[:, :2] < middles) & (middles < others[:, 2:])).all(axis=-1).any(axis=1)


def curve_rows(results):
    """Mean and standard deviation over the results, for each side and coverage."""
    curves = [result["report"]["curve"] for result in results]
    for rows in zip(*curves):
        coverages = np.array([row["coverage"] for row in rows])
        ratios = np.array([row["width"] / row["constant_width"] for row in rows])
        yield {
            "side": rows[0]["side"],
            "nominal": rows[0]["nominal"],
            "coverage": f"{coverages.mean():.4f}",
            "coverage_std": f"{coverages.std():.4f}",
            "width": f"{np.mean([row['width'] for row in rows]):.2f}",
            "constant_width": f"{np.mean([row['constant_width'] for row in rows]):.2f}",
            "ratio": f"{ratios.mean():.4f}",
            "ratio_std": f"{ratios.std():.4f}",
            "splits": len(rows),
        }


def group_rows(results):
    for name in results[0]["groups"]:
        rows = [result["groups"][name] for result in results if name in result["groups"]]
        means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        yield {"group": name} | {key: f"{value:.3f}" for key, value in means.items()}


def print_sides(results):
    """What was learnt, and the measures of all sides, over the results."""
    calibrations = [result["calibration"] for result in results]
    for name in ("exponent", "scale", "bias", "num_matched"):
        values = np.array([getattr(calibration, name) for calibration in calibrations])
        print(name, np.round(values.mean(axis=0), 3), "+-", np.round(values.std(axis=0), 3))
    for name in results[0]["report"]["sides"]["all"]:
        values = [result["report"]["sides"]["all"][name] for result in results]
        print(f"{name} {np.mean(values):.3f} +- {np.std(values):.3f}")


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*list(row.values())[4:], sep="  ")
    print(f"Wrote {path}")


def draw(model, images, matches, arguments):
    """The objects of the commonest class with the narrowest and with the widest 90 % intervals.

    They are of the first half of the photos; the calibration is of the others.
    """
    half = len(images) // 2
    model.calibration = calibration_of(matches.take(matches.images >= half))
    photos = original_photos(dataset_of(model, arguments.data), images[:half])
    objects = list(objects_of(model, photos))
    commonest = np.bincount([one["classes"][0] for _, one in objects]).argmax()
    objects = [(photo, one) for photo, one in objects if one["classes"][0] == commonest]
    objects.sort(key=lambda pair: np.ptp(pair[1]["intervals"], axis=-1).mean())
    rows = [objects[:COLUMNS], objects[::-1][:COLUMNS]]
    titles = ["narrowest", "widest"]
    picture = Image.new("RGB", (COLUMNS * CELL, 2 * (CELL + TITLE)), (255, 255, 255))
    text = ImageDraw.Draw(picture)
    for row, (title, pairs) in enumerate(zip(titles, rows)):
        top = row * (CELL + TITLE)
        words = f"{title} {100 * GROUP_COVERAGE:.0f} % intervals of {len(objects)} objects"
        text.text((4, top + 4), words, (40, 40, 40), ImageFont.load_default(18))
        for column, (photo, one) in enumerate(pairs):
            picture.paste(close_up(photo, one), (column * CELL, top + TITLE))
    picture.save(arguments.picture, quality=85)
    print(f"Wrote {arguments.picture}, {arguments.picture.stat().st_size / 1000:.0f} kB")


def original_photos(dataset, images):
    """The photos of a dataset in their original sizes, as many as `images`."""
    photos = []
    for batch in dataset:
        for photo, (height, width) in zip(batch["images"], np.asarray(batch["image_sizes"])):
            if len(photos) < len(images):
                image = images[len(photos)]
                pixels = np.asarray(photo)[:height, :width].round().astype("uint8")
                size = (round(image.width), round(image.height))
                photos.append(np.asarray(Image.fromarray(pixels).resize(size)))
    return photos


def objects_of(model, photos):
    """Pairs of a photo and the detection of one object in it."""
    for photo, found in zip(photos, model.detect(photos, coverage=GROUP_COVERAGE)):
        for row in range(len(found["boxes"])):
            yield photo, {key: value[row : row + 1] for key, value in found.items()}


def close_up(photo, one):
    """A detection with its intervals, and what is around it."""
    left, top, right, bottom = one["boxes"][0]
    side = 1.8 * max(right - left, bottom - top)
    corner = np.array([(left + right) / 2 - side / 2, (top + bottom) / 2 - side / 2])
    box = (*corner, *(corner + side))
    cell = Image.fromarray(photo).crop([round(v) for v in box]).resize((CELL - 4, CELL - 4))
    scale = (CELL - 4) / side
    moved = {
        "boxes": (one["boxes"] - np.tile(corner, 2)) * scale,
        "intervals": (one["intervals"] - np.tile(corner, 2)[:, None]) * scale,
    }
    return draw_detections(cell, {**one, **moved}, draw_intervals=True)


if __name__ == "__main__":
    main()
