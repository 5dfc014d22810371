"""Hand-made images: objects and detections as (class, box) and (class, score, box)."""

import numpy as np

from keras_gflv2.evaluation.detections import EvaluatedImage

OBJECT = [0, 0, 100, 100]
FAR = [500, 500, 600, 600]


def right_by(pixels, box=OBJECT):
    """A box moved to the right: the IoU with a square of 100 is (100 - p) / (100 + p)."""
    return [box[0] + pixels, box[1], box[2] + pixels, box[3]]


def image_of(objects, detections, ignored=()):
    """An `EvaluatedImage`; `ignored` has the positions of objects to ignore."""
    boxes = np.array([box for _, box in objects], "float32").reshape(-1, 4)
    found = sorted(detections, key=lambda d: -d[1])
    return EvaluatedImage(
        image_id=0,
        height=1000.0,
        width=1000.0,
        true_boxes=boxes,
        true_classes=np.array([label for label, _ in objects], int),
        true_ignored=np.isin(np.arange(len(objects)), list(ignored)),
        true_areas=(boxes[:, 2:] - boxes[:, :2]).prod(-1),
        boxes=np.array([box for _, _, box in found], "float32").reshape(-1, 4),
        classes=np.array([label for label, _, _ in found], int),
        scores=np.array([score for _, score, _ in found], "float32"),
    )
