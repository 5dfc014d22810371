"""FCOS: objects and points in, one box index per location out."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.assigners.point_assigner import PointAssigner, distances_to_sides, smallest_of
from keras_gflv2.grid import SIZE_MULTIPLE


@keras.saving.register_keras_serializable(package="keras_gflv2")
class FCOSAssigner(PointAssigner):
    """The assignment of FCOS (Tian et al., 2019), with or without center sampling.

    A location can answer for a box when its point lies inside the box, near the box's center, and
    when the farthest side of the box is within the range of the location's level. It answers for
    the smallest such box, the first of equals.

    Args:
        center_radius: half of the side of the square around a box's center that the points lie
            in, in strides of their level. None takes all points inside the box.
        ranges: limits in pixels between the levels, finest first, on the distance from a point to
            the farthest side of its box. A limit belongs to both of its levels.
        size_multiple: images of a batch count up to their size rounded up to a multiple of this.

    Call arguments, and what it returns: see `Assigner`. A location whose point lies inside an
    ignored box is neither positive nor negative.

    Raises:
        ValueError: there is not one limit between every two levels of the grid.
    """

    def __init__(
        self,
        center_radius: float | None = 1.5,
        ranges: Sequence[float] = (64, 128, 256, 512),
        size_multiple: int = SIZE_MULTIPLE,
    ):
        self.center_radius = center_radius
        self.ranges = tuple(ranges)
        self.size_multiple = size_multiple

    def candidates(self, boxes, at, sizes):
        num_levels = len(at.grid.strides)
        if len(self.ranges) != num_levels - 1:
            raise ValueError(
                f"`ranges` must have one limit between every two of the {num_levels} levels, "
                f"{num_levels - 1} in all; got {self.ranges}."
            )
        left, top, right, bottom = distances_to_sides(at.points, boxes)  # (B, A, N) each
        farthest = ops.maximum(ops.maximum(left, right), ops.maximum(top, bottom))
        limits = ops.convert_to_tensor((-1.0, *self.ranges, float("inf")), dtype="float32")
        lower, upper = ops.take(limits, at.levels), ops.take(limits, at.levels + 1)
        in_range = (farthest >= lower[:, None]) & (farthest <= upper[:, None])
        inside = smallest_of((left, top, right, bottom)) > 0.0
        if self.center_radius is not None:
            radius = at.strides * self.center_radius  # (A, 1)
            center = (boxes[..., :2] + boxes[..., 2:]) / 2  # (B, N, 2)
            for axis in (0, 1):
                middle = center[:, None, :, axis]  # (B, 1, N)
                point = at.points[:, axis, None]  # (A, 1)
                inside = inside & (point > middle - radius) & (point < middle + radius)
        return in_range & inside
