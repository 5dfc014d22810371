"""Boxes as differences from an anchor."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.representations.box_representation import BoxRepresentation

# A box is at most so many times as wide or high as its anchor, and at least the inverse.
MAX_RATIO = 1000 / 16
SMALLEST_SIDE = 1e-6


@keras.saving.register_keras_serializable(package="keras_gflv2")
class AnchorDeltas(BoxRepresentation):
    """Each box is its center relative to an anchor, and the logarithms of its relative size.

    `((gx - ax) / aw, (gy - ay) / ah, log(gw / aw), log(gh / ah))`, divided by `deviations` (Faster
    R-CNN, Eq. 2).

    Args:
        deviations: what the four numbers are divided by: (0.1, 0.1, 0.2, 0.2) in ATSS, ones in
            RetinaNet.

    Raw numbers: "box_deltas" (B, A, 4). Targets: the same.
    """

    output_name = "box_deltas"

    def __init__(self, deviations: Sequence[float] = (1.0, 1.0, 1.0, 1.0)):
        self.deviations = tuple(deviations)

    def decode(self, raw, at):
        center, size = _center_and_size(at.anchors)
        deltas = raw * ops.convert_to_tensor(self.deviations, dtype="float32")
        limit = math.log(MAX_RATIO)
        center = center + deltas[..., :2] * size
        half = size * ops.exp(ops.clip(deltas[..., 2:], -limit, limit)) / 2
        return ops.concatenate([center - half, center + half], axis=-1)

    def encode(self, boxes, at):
        boxes = ops.convert_to_tensor(boxes, dtype="float32")
        anchor_center, anchor_size = _center_and_size(at.anchors)
        center, size = _center_and_size(boxes)
        size = ops.maximum(size, SMALLEST_SIDE)
        deltas = ops.concatenate(
            [(center - anchor_center) / anchor_size, ops.log(size / anchor_size)], axis=-1
        )
        return deltas / ops.convert_to_tensor(self.deviations, dtype="float32")


def _center_and_size(boxes):
    """Center and (width, height), (..., 2) each, of boxes (..., 4)."""
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    return (top_left + bottom_right) / 2, bottom_right - top_left
