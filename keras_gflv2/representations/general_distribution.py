"""Boxes as four general distributions over distances."""

import keras
import numpy as np
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.representations.box_representation import BoxRepresentation
from keras_gflv2.representations.integral import Integral

UNITS = ("stride", "anchor")
# How many units an anchor is wide and high: that of GFL has 8 strides.
ANCHOR_UNITS = 8


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GeneralDistribution(BoxRepresentation):
    """Each side of a box is a distribution over its distance from the location (GFL, section 3.2).

    The distance is the expected value of `reg_max + 1` bins, one unit apart (GFLV2, Eq. 2). The
    width of the distribution tells how well the side is located.

    Args:
        reg_max: last bin n; distances reach `reg_max` units.
        integral: layer from logits (..., n + 1) to distances (...) in bins. Default `Integral()`.
        unit: of the distances: "stride", that of the level, or "anchor", an eighth of the width
            or height of the location's anchor, for grids with anchors of several sizes. Where the
            only anchor is a square of 8 strides, both are the same.

    Raw numbers: "box_distributions" (B, A, 4, n + 1) logits, sides left, top, right, bottom.
    Targets: distances (B, A, 4) in units.

    Raises:
        ValueError: there is no such unit.
    """

    output_name = "box_distributions"
    has_spread = True

    def __init__(
        self, reg_max: int = 16, integral: keras.layers.Layer | None = None, unit: str = "stride"
    ):
        if unit not in UNITS:
            raise ValueError(f"`unit` must be one of {UNITS}, got {unit!r}.")
        self.reg_max = reg_max
        self.unit = unit
        self.integral = integral or Integral(name="integral")

    @property
    def shape(self):
        return (4, self.reg_max + 1)

    def decode(self, raw, at):
        return box_ops.boxes_from_distances(at.points, self.integral(raw) * self.bin_sizes(at))

    def encode(self, boxes, at):
        boxes = ops.convert_to_tensor(boxes, dtype="float32")
        return box_ops.distances_from_boxes(at.points, boxes) / self.bin_sizes(at)

    def spread(self, raw, at):
        # The variance as half the mean square of the difference of two draws: no mean to subtract,
        # so nothing cancels, and few operations.
        raw = ops.cast(raw, keras.backend.result_type(raw.dtype, "float32"))
        probabilities = ops.softmax(raw, axis=-1)
        bins = np.arange(self.reg_max + 1, dtype="float32")
        half_squares = ops.cast((bins - bins[:, None]) ** 2 / 2, probabilities.dtype)
        variance = ops.sum(probabilities * ops.matmul(probabilities, half_squares), axis=-1)
        return ops.sqrt(variance) * self.bin_sizes(at)

    def bin_sizes(self, at):
        """The unit, from bin to bin, in pixels: (A, 1), or (A, 4) where it differs by axis."""
        if self.unit == "stride":
            return at.strides
        size = (at.anchors[..., 2:] - at.anchors[..., :2]) / ANCHOR_UNITS
        return ops.concatenate([size, size], axis=-1)
