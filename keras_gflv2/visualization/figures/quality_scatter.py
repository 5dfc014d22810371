"""Figure 1(b): the sharper the four distributions of a box, the better it is located."""

from pathlib import Path

import numpy as np

from keras_gflv2.evaluation.quality import pearson
from keras_gflv2.visualization.figures.scenes import check_distributions, overlaps, save

BINS = 12


def quality_scatter(scenes, of="positives"):
    """Mean top-1 probability of the four sides against the IoU of the box with its object.

    Args:
        scenes: iterable of `Scene`.
        of: "positives", the locations that answer for an object in training; or "detections",
            what is left after NMS, each with the object of its class that it overlaps most.

    Returns:
        Dictionary of "of", "top_1" (n,), "iou" (n,) and "correlation", Pearson's.

    Raises:
        ValueError: the detector has no distributions, or there are fewer than two boxes.
    """
    if of not in ("positives", "detections"):
        raise ValueError(f'`of` must be "positives" or "detections", got {of!r}.')
    parts = []
    for scene in scenes:
        check_distributions(scene)
        parts.append((_positives if of == "positives" else _detections)(scene))
    top_1, iou = (np.concatenate(values) for values in zip(*parts))
    if len(iou) < 2:
        raise ValueError(f"There are {len(iou)} {of}: a correlation needs at least two.")
    return {"of": of, "top_1": top_1, "iou": iou, "correlation": pearson(top_1, iou)}


def _positives(scene):
    positive = scene.object_index >= 0
    truth = scene.true_boxes[scene.object_index[positive]]
    return scene.top_1[positive], overlaps(scene.boxes[positive], truth)


def _detections(scene):
    found = scene.detections
    same = found["classes"][:, None] == scene.true_classes  # padding has the class -1
    iou = np.where(same, overlaps(found["boxes"][:, None], scene.true_boxes), 0.0)
    return scene.top_1[found["locations"]], iou.max(axis=1, initial=0.0)


def draw_quality_scatter(data, path):
    """Draws what `quality_scatter` returns to a file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.2), layout="constrained")
    axes = figure.subplots()
    # Many points lie on each other: fainter ones show how many.
    alpha = float(np.clip(600 / len(data["iou"]), 0.08, 0.7))
    axes.scatter(data["top_1"], data["iou"], s=7, alpha=alpha, color="tab:blue", linewidths=0)
    axes.plot(*_running_mean(data), color="tab:red", marker="o", markersize=4, label="mean")
    axes.set(
        xlabel="mean top-1 probability of the four sides",
        ylabel="IoU of box and object",
        ylim=(0, 1),
        title=f"{len(data['iou'])} {data['of']}, correlation {data['correlation']:.3f}",
    )
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    save(figure, Path(path))


def _running_mean(data):
    """Mean top-1 probability and IoU of equally many boxes each, in the order of the former."""
    order = np.argsort(data["top_1"])
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return [[data[name][part].mean() for part in parts] for name in ("top_1", "iou")]
