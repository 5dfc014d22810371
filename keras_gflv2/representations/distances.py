"""Boxes as four distances from a location."""

import keras
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.representations.box_representation import BoxRepresentation

ACTIVATIONS = ("relu", "exp")
# Of larger logarithms the distance would soon be infinite, and its loss no number.
LARGEST_LOGARITHM = 20.0
SMALLEST_DISTANCE = 1e-6


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Distances(BoxRepresentation):
    """Each side of a box is one number: its distance from the location.

    Args:
        activation: "relu" predicts the distances (FCOS with normalized boxes), "exp" their
            logarithms (plain FCOS, FoveaBox).
        unit: of the distances, in strides of the level or, without `in_strides`, in pixels.
            FoveaBox's is 2 strides.
        in_strides: whether the unit grows with the stride of the level.
        limit: targets of logarithms are those of distances in 1 / limit..limit units; None for no
            limit.
        edge: how many pixels before the right and bottom edge of an image its boxes end.

    Raw numbers: "box_distances" (B, A, 4), sides left, top, right, bottom: distances in units, or
    their logarithms. Targets: the same.
    """

    output_name = "box_distances"

    def __init__(
        self,
        activation: str = "relu",
        unit: float = 1.0,
        in_strides: bool = True,
        limit: float | None = None,
        edge: float = 0.0,
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"`activation` must be one of {ACTIVATIONS}, got {activation!r}.")
        self.activation = activation
        self.unit = unit
        self.in_strides = in_strides
        self.limit = limit
        self.edge = edge

    def activate(self, raw):
        return ops.relu(raw) if self.activation == "relu" else raw

    def decode(self, raw, at):
        distances = raw
        if self.activation == "exp":
            distances = ops.exp(ops.minimum(raw, LARGEST_LOGARITHM))
        return box_ops.boxes_from_distances(at.points, distances * self._unit(at))

    def encode(self, boxes, at):
        boxes = ops.convert_to_tensor(boxes, dtype="float32")
        distances = box_ops.distances_from_boxes(at.points, boxes) / self._unit(at)
        if self.activation == "relu":
            return distances
        lowest, highest = SMALLEST_DISTANCE, float("inf")
        if self.limit is not None:
            lowest, highest = 1 / self.limit, self.limit
        return ops.log(ops.minimum(ops.maximum(distances, lowest), highest))

    def _unit(self, at):
        return at.strides * self.unit if self.in_strides else self.unit
