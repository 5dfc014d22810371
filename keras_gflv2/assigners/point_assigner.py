"""What assigners without anchors share: a location is a point, inside a box or not."""

from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.assigners.assigner import Assigner
from keras_gflv2.targets import Assignment

# An area that is larger counts as this one: below the infinity of boxes that are no candidates.
LARGEST = 3e38


class PointAssigner(Assigner):
    """Assigns every location to the smallest of the boxes that could have it.

    Subclasses implement `candidates`. A location whose point lies inside an ignored box or outside
    of its image is neither positive nor negative.

    Call arguments, and what it returns: see `Assigner`.
    """

    # Whether the last of equally small boxes gets a location, instead of the first.
    last_of_equals = False

    def __call__(self, targets, at):
        boxes = box_ops.zero_unless_finite(targets.boxes)
        valid = self.inside(targets, at)  # (B, A)
        if targets.ignored is not None:
            in_box = smallest_of(distances_to_sides(at.points, boxes)) > 0.0  # (B, A, N)
            valid = valid & ~ops.any(in_box & targets.is_ignored[:, None], axis=-1)
        candidates = self.candidates(boxes, at, self.valid_sizes(targets, at))
        candidates = candidates & targets.is_object[:, None] & valid[..., None]
        return Assignment(self._smallest_box(candidates, self.size(boxes)), valid)

    def candidates(self, boxes, at, sizes):
        """Whether each location could answer for each box.

        Args:
            boxes: (B, N, 4) xyxy in pixels; padding may be anything finite.
            at: `Locations`.
            sizes: (B, levels, 2) rows and columns of every level inside each image.

        Returns (B, A, N) bool.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement candidates(boxes, at, sizes)."
        )

    def size(self, boxes):
        """The number (B, N) of which the smallest wins: the area of the boxes (B, N, 4)."""
        return box_ops.area(boxes)

    def _smallest_box(self, candidates, size):
        """The smallest of the boxes that could have a location (B, A, N): (B, A), or -1."""
        num_boxes = ops.shape(size)[-1]
        size = ops.minimum(size, LARGEST)[:, None]
        size = ops.where(candidates, size, float("inf"))
        if self.last_of_equals:
            size = ops.flip(size, axis=-1)
        index = ops.cast(ops.argmin(size, axis=-1), "int32")  # the first of equals
        if self.last_of_equals:
            index = num_boxes - 1 - index
        return ops.where(ops.any(candidates, axis=-1), index, -1)


def distances_to_sides(points, boxes):
    """Distances from points (A, 2) to the sides of boxes (B, N, 4): four arrays (B, A, N)."""
    x, y = points[:, :1], points[:, 1:]  # (A, 1)
    left, top, right, bottom = (boxes[:, None, :, side] for side in range(4))  # (B, 1, N)
    return x - left, y - top, right - x, bottom - y


def smallest_of(distances):
    """The smallest of four arrays, one by one."""
    left, top, right, bottom = distances
    return ops.minimum(ops.minimum(left, right), ops.minimum(top, bottom))
