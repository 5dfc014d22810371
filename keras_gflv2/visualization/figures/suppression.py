"""Figure 7: the boxes of an object before and after NMS, with the scores that decide."""

from pathlib import Path

import numpy as np

from keras_gflv2.visualization.figures.scenes import (
    draw_box,
    overlaps,
    save,
    show_around,
)

SHOWN = 4  # boxes before NMS
COLOURS = ("#ff3b30", "#ff9500", "#2f7bff", "#c644fc")
KEPT, TRUTH = "#00e05a", "white"
MARGIN = 0.15  # around the boxes, of the longer side of all


def suppression(scenes, count=1, score_threshold=0.05):
    """Objects for which the quality decides which box remains.

    The candidates of an object are the locations whose box overlaps it by an IoU of 0.5 or more,
    more than another object of its class, and whose score for its class is above the threshold.
    Greedy NMS keeps the one that is ranked first. It is compared with the one that would be first
    if boxes were ranked by the class score alone.

    Args:
        scenes: iterable of `Scene`.
        count: how many objects to show: those that gain most IoU, each from another image.
        score_threshold: of candidates.

    Returns:
        Dictionary of "examples", a list of dictionaries: "image" (H, W, 3) uint8, "true_box" (4,),
        "boxes" (n, 4) xyxy, "joint", "class" and "quality" (n,) scores ("quality" may be None),
        "iou" (n,), ranked by "joint", so that the first is kept, and "first_by_class", an index;
        and over all objects with two candidates or more "num_objects", "iou_joint" and "iou_class",
        the mean IoU of the boxes that are first by either score, and "iou_best", of the best ones.

    Raises:
        ValueError: no object has two candidates.
    """
    totals, examples = [], []
    for scene in scenes:
        own = list(_objects(scene, score_threshold))
        totals += [(e["iou"][0], e["iou"][e["first_by_class"]], e["iou"].max()) for e in own]
        examples += sorted(own, key=_gain)[-1:]
    if not totals:
        raise ValueError("No object has two candidates: there is nothing to suppress.")
    means = np.mean(totals, axis=0).tolist()
    return {
        "examples": sorted(examples, key=_gain)[::-1][:count],
        "num_objects": len(totals),
        **dict(zip(("iou_joint", "iou_class", "iou_best"), means)),
    }


def _gain(example):
    return example["iou"][0] - example["iou"][example["first_by_class"]]


def _objects(scene, score_threshold):
    """What `suppression` says of each object of a scene that has two candidates."""
    for index in np.flatnonzero(scene.true_classes >= 0):
        label = scene.true_classes[index]
        same = scene.true_classes == label
        iou = overlaps(scene.boxes[:, None], scene.true_boxes[same])  # (A, objects of the class)
        own = np.flatnonzero(np.flatnonzero(same) == index)[0]
        is_candidate = (iou[:, own] >= 0.5) & (iou.argmax(axis=1) == own)
        rows = np.flatnonzero(is_candidate & (scene.scores[:, label] > score_threshold))
        if len(rows) < 2:
            continue
        rows = rows[np.argsort(-scene.scores[rows, label], kind="stable")]
        yield {
            "image": scene.image,
            "true_box": scene.true_boxes[index],
            "boxes": scene.boxes[rows],
            "joint": scene.scores[rows, label],
            "class": scene.class_scores[rows, label],
            "quality": None if scene.quality is None else scene.quality[rows],
            "iou": iou[rows, own],
            "first_by_class": int(scene.class_scores[rows, label].argmax()),
        }


# === Drawing ===


def draw_suppression(data, path):
    """Draws what `suppression` returns: of each object boxes before NMS, scores, and after."""
    from matplotlib.figure import Figure

    examples = data["examples"]
    figure = Figure(figsize=(12, 4.2 * len(examples) + 0.3), layout="constrained")
    grid = figure.subplots(len(examples), 3, squeeze=False, width_ratios=(1, 1.05, 1))
    for (before, table, after), example in zip(grid, examples):
        shown = _shown(example)
        _draw_crop(before, example, shown)
        for color, row in zip(COLOURS, shown):
            draw_box(before, example["boxes"][row], color=color, linewidth=2)
        before.set_title(f"before NMS: {len(shown)} of {len(example['iou'])} boxes")
        _draw_table(table, example, shown)
        _draw_crop(after, example, shown)
        by_class = example["first_by_class"]
        if by_class:
            draw_box(after, example["boxes"][by_class], color="#ff3b30", linewidth=1.5)
        draw_box(after, example["boxes"][0], color=KEPT, linewidth=2.5)
        after.set_title(
            f"after NMS: IoU {example['iou'][0]:.2f} (green);\n"
            f"by the class score alone {example['iou'][by_class]:.2f} (red)"
        )
    figure.suptitle(
        f"Mean IoU of the first boxes of {data['num_objects']} objects: by the joint score "
        f"{data['iou_joint']:.3f}, by the class score {data['iou_class']:.3f}, "
        f"best of all {data['iou_best']:.3f}. Dashed: the object."
    )
    save(figure, Path(path))


def _shown(example):
    """Indices of the boxes to draw: those first by either score, and others spread over ranks."""
    first = dict.fromkeys([0, example["first_by_class"]])
    ranks = np.linspace(0, len(example["iou"]) - 1, SHOWN).round().astype(int).tolist()
    return sorted(list({**first, **dict.fromkeys(ranks)})[:SHOWN])


def _draw_table(axes, example, shown):
    axes.axis("off")
    names = ["class C", "quality I", "joint J", "real IoU"]
    columns = [example[name] for name in ("class", "quality", "joint", "iou")]
    cells = [
        ["-" if values is None else f"{values[row]:.3f}" for values in columns] for row in shown
    ]
    table = axes.table(cells, colLabels=names, loc="center", cellLoc="center")
    table.auto_set_font_size(False)
    table.set_fontsize(11)
    table.scale(1, 2.2)
    for line, (color, row) in enumerate(zip(COLOURS, shown), start=1):
        for column in range(len(names)):
            text = table[line, column].get_text()
            text.set_color(color)
            text.set_weight("bold" if row == 0 else "normal")
    axes.set_title("ranked by J; the first remains")


def _draw_crop(axes, example, shown):
    """The image around the object and the boxes that are shown, with the object."""
    boxes = np.stack([example["true_box"], *example["boxes"][shown]])
    around = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    show_around(axes, example["image"], around, MARGIN * (around[2:] - around[:2]).max())
    draw_box(axes, example["true_box"], color=TRUTH, linestyle="--", linewidth=1.5)
