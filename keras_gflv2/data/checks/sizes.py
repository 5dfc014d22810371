"""Sizes of the boxes at the training size: against strides, and against what distances reach."""

import numpy as np

from keras_gflv2.data.checks.report import Finding
from keras_gflv2.images import resize_shape

SMALL = 8  # pixels: the finest stride of the detectors of this package
TINY = 4
SEEN = 4  # pixels of the image file, below which an object can hardly be seen
MANY = 0.05  # part of the boxes
ASPECT = 8.0
WHOLE_IMAGE = 0.95
ANCHOR_SCALE = 8  # side of the anchors in strides, Section 4 of the GFL paper
PERCENTILES = (1, 10, 50, 90, 99)


def boxes_at(parts, image_size):
    """All objects that are not ignored, at the training size.

    Args:
        parts: {split: `Annotations`}.
        image_size: `(short, longest)` in pixels.

    Returns:
        Dictionary of arrays (N, ...): "extent" (N, 2), width and height in pixels of the resized
        image; "part", of the image's area; "split" and "image", whose they are; "box" (N, 4) in
        pixels of the image; "label", the class index in its split.
    """
    found = {"extent": [], "part": [], "split": [], "image": [], "box": [], "label": []}
    for split, annotations in parts.items():
        for index, record in enumerate(annotations.records):
            boxes = record.boxes[record.ignored == 0].astype("float64")
            size = np.array([record.height, record.width])
            ratio = (np.array(resize_shape(size, image_size)) / size)[::-1]
            extent = boxes[:, 2:] - boxes[:, :2]
            found["extent"].append(extent * ratio)
            found["part"].append(extent.prod(-1) / size.prod())
            found["split"] += [split] * len(boxes)
            found["image"] += [index] * len(boxes)
            found["box"].append(boxes)
            found["label"].append(record.classes[record.ignored == 0])
    return {
        "extent": np.concatenate([*found["extent"], np.zeros((0, 2))]),
        "part": np.concatenate([*found["part"], np.zeros(0)]),
        "split": found["split"],
        "image": found["image"],
        "box": np.concatenate([*found["box"], np.zeros((0, 4))]),
        "label": np.concatenate([*found["label"], np.zeros(0, int)]).astype(int),
    }


def summarize(boxes, image_size, strides):
    """`DataReport.sizes`; empty where there is no box."""
    extent = boxes["extent"]
    if not len(extent):
        return {}
    side = np.sqrt(extent.prod(-1))
    aspect = extent[:, 0] / np.maximum(extent[:, 1], 1e-9)
    levels = np.bincount(level_of(side, strides), minlength=len(strides))

    def percentiles(values):
        found = np.percentile(values, PERCENTILES)
        return {f"{p}%": round(float(v), 3) for p, v in zip(PERCENTILES, found)}

    return {
        "image_size": list(image_size),
        "side": percentiles(side),
        "shorter_side": percentiles(extent.min(-1)),
        "longer_side": percentiles(extent.max(-1)),
        "aspect_ratio": percentiles(aspect),
        "levels": {int(s): int(number) for s, number in zip(strides, levels)},
    }


def level_of(side, strides):
    """Index of the level whose anchors are nearest to boxes of a side, in pixels."""
    anchors = np.log(ANCHOR_SCALE * np.asarray(strides, "float64"))
    return np.abs(np.log(np.maximum(side, 1e-3))[:, None] - anchors).argmin(-1)


def find_size_problems(boxes, parts, strides, reg_max):
    """Boxes that are too small, too large or too thin for the detector at this size."""
    extent, total = boxes["extent"], len(boxes["extent"])

    def finding(mask, code, text, advice, severity="warning", worst=None):
        rows = np.flatnonzero(mask)
        # The worst come first.
        rows = rows[np.argsort((-longer if worst is None else worst)[rows], kind="stable")]
        if not len(rows):
            return []
        items = [_item(boxes, parts, row) for row in rows]
        images = [(boxes["split"][row], boxes["image"][row]) for row in rows]
        message = f"{len(rows)} of {total} boxes {text}"
        return [Finding(severity, code, message, items, advice, images)]

    shorter, longer = extent.min(-1, initial=np.inf), extent.max(-1, initial=0)
    found = finding(
        shorter < SMALL,
        "small_boxes",
        f"have a side under {SMALL} pixels at the training size",
        f"{int((shorter < TINY).sum())} are under {TINY}. The finest locations are {strides[0]} "
        "pixels apart: train with a larger --image-size, or on tiles of the images.",
        "warning" if (shorter < TINY).any() or (shorter < SMALL).mean() > MANY else "note",
        shorter,
    )
    own = boxes["box"][:, 2:] - boxes["box"][:, :2]
    found += finding(
        own.min(-1, initial=np.inf) < SEEN,
        "tiny_boxes",
        f"have a side under {SEEN} pixels in the image itself",
        "So few pixels show no object at any --image-size: look at them, and remove slips of the "
        "mouse.",
        worst=own.min(-1, initial=np.inf),
    )
    limit = reg_max * strides[-1]
    found += finding(
        longer / 2 > limit,
        "boxes_beyond_reg_max",
        f"are longer than 2 x {limit} pixels (2 x reg_max x stride, {reg_max} x {strides[-1]}): no "
        "level can express the distances to their sides",
        "Train with a smaller --image-size or a larger --reg-max.",
        "error" if (longer / 2 > limit).mean() > MANY else "warning",
    )
    found += finding(
        (longer > limit) & (longer / 2 <= limit),
        "boxes_near_reg_max",
        f"are longer than {limit} pixels (reg_max x stride, {reg_max} x {strides[-1]}): only "
        "locations near their centers can express the distances to their sides",
        "A smaller --image-size or a larger --reg-max leaves room.",
    )
    stride = np.asarray(strides)[level_of(np.sqrt(extent.prod(-1)), strides)]
    found += finding(
        (longer / 2 > reg_max * stride) & (longer <= limit),
        "boxes_beyond_their_level",
        "are so long that the level of their area cannot express the distances to their sides "
        f"(more than reg_max = {reg_max} strides from the center)",
        "Coarser levels answer for them, less exactly; a larger --reg-max helps.",
        "note",
    )
    found += finding(
        longer > ASPECT * np.maximum(shorter, 1e-9),
        "thin_boxes",
        f"are more than {ASPECT:g} times as long as wide",
        "",
        "note",
    )
    found += finding(
        boxes["part"] > WHOLE_IMAGE,
        "whole_images",
        f"cover more than {WHOLE_IMAGE:.0%} of their image",
        "",
        "warning" if (boxes["part"] > WHOLE_IMAGE).mean() > 0.5 else "note",
    )
    return found


def _item(boxes, parts, row):
    annotations = parts[boxes["split"][row]]
    record = annotations.records[boxes["image"][row]]
    width, height = boxes["extent"][row]
    name = annotations.class_names[boxes["label"][row]]
    return f"{record.name} ({name}, {width:.3g} x {height:.3g})"
