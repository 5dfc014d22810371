"""Figures 1(c), 1(d) and 3: the four distributions of a box, drawn at its sides on the photo."""

import collections
from pathlib import Path

import numpy as np

from keras_gflv2.intervals import SIDES
from keras_gflv2.visualization.figures.scenes import (
    check_distributions,
    draw_box,
    overlaps,
    save,
    show_around,
)

COLOURS = ("tab:red", "tab:orange", "tab:blue", "tab:purple")
BOX, TRUTH = "#00e05a", "white"
# Of a box: around it on the photo, and the height of a bar of probability 1 beside it.
MARGIN, BAR = 0.45, 0.5
MIN_MARGIN = 12  # pixels
SMALLEST = 0.005  # probability that is drawn
TAG = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5}


def side_distributions(scenes, count=1, min_score=0.3):
    """The sharpest and the flattest boxes among detections that match an object.

    They are of the class that most of these detections have, so that they can be compared. Boxes
    that end at the edge of the image are left out: the edge is easily found.

    Args:
        scenes: iterable of `Scene`.
        count: so many of each kind, each from another image where there are as many.
        min_score: confidence of a detection that is looked at.

    Returns:
        List of dictionaries, the sharp ones first: "kind", "sharp" or "flat"; "class", an index;
        "image" (H, W, 3) uint8, "box" and "true_box" (4,) xyxy in its pixels, "point" (2,) of the
        location;
        "distributions" (4, n + 1) of the left, top, right and bottom side, and "bins" (4, n + 1),
        where on the image each of their bins is: x of left and right, y of top and bottom;
        "spread" (4,) in pixels; "top_1", "iou", "score", "class_score" and "quality" (or None).

    Raises:
        ValueError: the detector has no distributions, or no detection matches an object.
    """
    extremes, counts = {}, collections.Counter()  # of each class
    for scene in scenes:
        check_distributions(scene)
        own = sorted(_matched(scene, min_score), key=lambda example: -example["top_1"])
        for label in {example["class"] for example in own}:
            of_class = [example for example in own if example["class"] == label]
            counts[label] += len(of_class)
            extremes.setdefault(label, []).extend(of_class[:1] + of_class[1:][-1:])
    if not counts:
        raise ValueError(
            f"No detection with a score above {min_score}, inside of its image, overlaps an object "
            "of its class by an IoU of 0.5. Train the detector longer, or lower `min_score`."
        )
    found = extremes[counts.most_common(1)[0][0]]
    found.sort(key=lambda example: -example["top_1"])
    sharp = [{"kind": "sharp", **example} for example in found[:count]]
    flat = [{"kind": "flat", **example} for example in found[count:][-count:][::-1]]
    return sharp + flat


def _matched(scene, min_score):
    """Examples of one scene: its detections that overlap an object of their class enough."""
    found = scene.detections
    height, width = scene.image.shape[:2]
    for row, location in enumerate(found["locations"]):
        label, box = int(found["classes"][row]), found["boxes"][row]
        same = scene.true_classes == label
        is_cut = (box[:2] < 1).any() or (box[2:] > [width - 1, height - 1]).any()
        if found["confidence"][row] < min_score or is_cut or not same.any():
            continue
        iou = np.where(same, overlaps(box, scene.true_boxes), 0.0)
        if iou.max() < 0.5:
            continue
        yield {
            "image": scene.image,
            "class": label,
            "box": box,
            "true_box": scene.true_boxes[iou.argmax()],
            "point": scene.points[location],
            "distributions": scene.distributions[location],
            "bins": bins_on_image(scene, location),
            "spread": scene.spread[location],
            "top_1": float(scene.top_1[location]),
            "iou": float(iou.max()),
            "score": float(scene.scores[location, label]),
            "class_score": float(scene.class_scores[location, label]),
            "quality": None if scene.quality is None else float(scene.quality[location]),
        }


def bins_on_image(scene, location):
    """Where the bins (4, n + 1) of the sides are: x of left and right, y of top and bottom."""
    count = scene.distributions.shape[-1]
    return bins_of_sides(scene.points[location], scene.bin_sizes[location], count)


def bins_of_sides(point, bin_sizes, count):
    """The same, (4, count), of a point (2,) and the sizes of the bins of its sides (4,)."""
    distances = bin_sizes[:, None] * np.arange(count)
    signs = np.array([[-1], [-1], [1], [1]])
    return np.tile(point, 2)[:, None] + signs * distances


# === Drawing ===


def draw_side_distributions(examples, path):
    """Draws what `side_distributions` returns side by side, as Figures 1(c) and 1(d)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(examples), 5.0), layout="constrained")
    for axes, example in zip(figure.subplots(1, len(examples), squeeze=False)[0], examples):
        _draw_photo(axes, example)
        axes.set_title(
            f"{example['kind']}: mean top-1 {example['top_1']:.2f}, IoU {example['iou']:.2f}"
        )
    save(figure, Path(path))


def draw_statistics(examples, path, topk=4):
    """Draws boxes beside their distributions and what the quality is read off, as Figure 3.

    Args:
        examples: what `side_distributions` returns.
        path: the file to write.
        topk: how many of the largest probabilities the detector uses (k of Eq. 4).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 2.8 * len(examples)), layout="constrained")
    grid = figure.subplots(len(examples), 5, squeeze=False, width_ratios=(1.3, 1, 1, 1, 1))
    for row, example in zip(grid, examples):
        _draw_photo(row[0], example)
        quality = example["quality"]
        told = "" if quality is None else f"I {quality:.2f} * C {example['class_score']:.2f} = "
        title = f"{told}score {example['score']:.2f}; IoU {example['iou']:.2f}"
        row[0].set_title(title, fontsize=9)
        for side, axes in enumerate(row[1:]):
            _draw_bars(axes, example, side, topk)
    save(figure, Path(path))


def _draw_bars(axes, example, side, topk):
    """One distribution over its bins, the largest `topk` probabilities in color."""
    probabilities = example["distributions"][side]
    largest = np.argsort(-probabilities)[:topk]
    colors = ["lightgray"] * len(probabilities)
    for index in largest:
        colors[index] = COLOURS[side]
    axes.bar(np.arange(len(probabilities)), probabilities, color=colors)
    axes.set(ylim=(0, 1), xlabel="bin")
    title = f"{SIDES[side]}: top-1 {probabilities.max():.2f}, std {example['spread'][side]:.1f} px"
    axes.set_title(title, fontsize=9)


def _draw_photo(axes, example):
    """The photo around a box, with its location and the distributions at its sides."""
    left, top, right, bottom = box = example["box"]
    draw_box(axes, example["true_box"], color=TRUTH, linestyle="--", linewidth=1.5)
    draw_box(axes, box, color=BOX, linewidth=2.5)
    axes.plot(*example["point"], marker="+", color=BOX, markersize=10)
    longest = max(right - left, bottom - top)
    for side in range(4):
        _draw_side(axes, example, side, BAR * longest)
    show_around(axes, example["image"], box, max(MARGIN * longest, MIN_MARGIN))


def _draw_side(axes, example, side, unit):
    """Bars of a distribution on the middle line of its box; `unit` pixels are a probability of 1.

    Those of left and right stand on the horizontal line, those of top and bottom lie beside the
    vertical one.
    """
    left, top, right, bottom = example["box"]
    is_seen = example["distributions"][side] >= SMALLEST
    bins = example["bins"][side]
    width = 0.85 * abs(bins[1] - bins[0])
    bins, probabilities = bins[is_seen], example["distributions"][side][is_seen]
    lengths = unit * probabilities
    style = {"color": COLOURS[side], "alpha": 0.85, "edgecolor": "white", "linewidth": 0.5}
    best = probabilities.argmax()
    if side % 2 == 0:
        start = (top + bottom) / 2
        axes.bar(bins, lengths, width, bottom=start - lengths, **style)
        place, align = (bins[best], start + 0.03 * unit), {"ha": "center", "va": "top"}
    else:
        start = (left + right) / 2
        axes.barh(bins, lengths, width, left=start, **style)
        place, align = (start - 0.05 * unit, bins[best]), {"ha": "right", "va": "center"}
    text = f"{probabilities[best]:.2f}"
    axes.text(*place, text, color=COLOURS[side], weight="bold", **align, bbox=TAG)
