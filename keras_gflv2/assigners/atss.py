"""ATSS: objects and locations in, one box index per location out."""

import keras
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.assigners.assigner import Assigner
from keras_gflv2.grid import SIZE_MULTIPLE
from keras_gflv2.targets import Assignment

# A center counts as inside a box when it is farther than this from every side, in pixels.
INSIDE_MARGIN = 0.01
# PyTorch's topk has one algorithm for maps from this many times `topk` locations on, and another
# for smaller ones.
TIE_SIZE = 64


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ATSSAssigner(Assigner):
    """Adaptive Training Sample Selection (Zhang et al., 2020), with static shapes.

    Candidates of a box are the `topk` locations of each level nearest to its center. Those whose
    anchor overlaps the box by at least the mean plus the standard deviation of all the box's
    candidates, and whose center lies inside the box, are positive. A location claimed by several
    boxes goes to the one it overlaps most, the first of equals.

    Locations lie on a grid, so the `topk` nearest are inside a window of `topk` x `topk` cells
    around the box's center: the cost does not grow with the image.

    Args:
        topk: candidates per level and box.
        anchor_scale: side of the square anchors in strides; None takes the grid's.
        ignore_threshold: a location is neither positive nor negative when more than this part of
            its anchor lies inside one ignored box.
        size_multiple: images of a batch count up to their size rounded up to a multiple of this,
            to which the official pipeline pads each.

    Call arguments, and what it returns: see `Assigner`.

    Raises:
        ValueError: the grid has several anchors per cell.
    """

    def __init__(
        self,
        topk: int = 9,
        anchor_scale: float | None = None,
        ignore_threshold: float = 0.5,
        size_multiple: int = SIZE_MULTIPLE,
    ):
        self.topk = topk
        self.anchor_scale = anchor_scale
        self.ignore_threshold = ignore_threshold
        self.size_multiple = size_multiple

    def __call__(self, targets, at):
        if at.grid.anchors_per_cell > 1:
            raise ValueError(
                f"ATSSAssigner needs one anchor per cell, the grid has {at.grid.anchors_per_cell}. "
                "Use `MaxIoUAssigner`, or an `AnchorGrid` with one octave and one ratio."
            )
        if self.anchor_scale is not None:
            at = at.with_scale(self.anchor_scale)
        sizes = self.valid_sizes(targets, at)
        valid = self.inside(targets, at)  # (B, A)
        in_ignored = self.in_ignored(targets, at)  # (B, A) or None
        if in_ignored is not None:
            valid = valid & ~in_ignored

        boxes = targets.boxes
        candidates, exists = self._candidates(boxes, at.shapes, at.grid.strides, sizes)  # (B, N, K)
        positive, overlaps = self._select(boxes, at.anchors, candidates, exists, in_ignored)
        positive = positive & targets.is_object[..., None]
        return Assignment(_resolve(positive, overlaps, candidates, at.count), valid)

    def _candidates(self, boxes, level_shapes, strides, sizes):
        """The nearest locations of each level: indices (B, N, K) and whether they exist."""
        indices, exists = [], []
        offset = 0
        for level, ((rows, columns), stride) in enumerate(zip(level_shapes, strides)):
            center = (boxes[..., :2] + boxes[..., 2:]) / (2.0 * stride)  # (B, N, 2) in cells
            row, dy = self._window(center[..., 1], sizes[:, level, 0])  # (B, N, topk)
            column, dx = self._window(center[..., 0], sizes[:, level, 1])
            distance = dy[..., :, None] + dx[..., None, :]  # (B, N, topk, topk)
            shape = ops.shape(distance)
            distance = ops.reshape(distance, (*shape[:2], self.topk**2))
            # Of equally far locations the first count on large maps and the last on small ones:
            # PyTorch's topk, whose choice has no rule, agrees most often with that. A stable sort
            # makes it the same on all backends.
            order = ops.arange(self.topk**2)
            is_small = rows * columns < TIE_SIZE * self.topk
            order = ops.where(is_small, self.topk**2 - 1 - order, order)
            distance = ops.take(distance, order, axis=-1)
            nearest_first = ops.argsort(distance, axis=-1)[..., : self.topk]
            nearest = ops.take_along_axis(distance, nearest_first, axis=-1)
            window_index = ops.take(order, nearest_first)
            row = ops.take_along_axis(row, window_index // self.topk, axis=-1)
            column = ops.take_along_axis(column, window_index % self.topk, axis=-1)
            exists.append(nearest < float("inf"))
            indices.append(ops.where(exists[-1], offset + row * columns + column, 0))
            offset = offset + rows * columns
        return ops.concatenate(indices, axis=-1), ops.concatenate(exists, axis=-1)

    def _window(self, center, size):
        """`topk` cells of one axis around `center` and their squared distances, inf outside."""
        size = size[:, None]
        nearest = ops.cast(ops.round(ops.clip(center, -1e6, 1e6)), "int32")
        start = ops.minimum(nearest - self.topk // 2, size - self.topk)
        cells = ops.maximum(start, 0)[..., None] + ops.arange(self.topk)  # (B, N, topk)
        distance = ops.square(ops.cast(cells, "float32") - center[..., None])
        return cells, ops.where(cells < size[..., None], distance, float("inf"))

    def _select(self, boxes, anchors, candidates, exists, in_ignored):
        """Which candidates are positive, and all their overlaps: (B, N, K) each."""
        candidate_anchors = ops.take(anchors, candidates, axis=0)  # (B, N, K, 4)
        overlaps = box_ops.iou(candidate_anchors, boxes[:, :, None])
        if in_ignored is not None:
            shape = ops.shape(candidates)
            flat = ops.reshape(candidates, (shape[0], -1))
            hidden = ops.reshape(ops.take_along_axis(in_ignored, flat, axis=1), shape)
            overlaps = ops.where(hidden, -1.0, overlaps)  # they count so in the threshold too

        weight = ops.cast(exists, "float32")
        count = ops.sum(weight, axis=-1, keepdims=True)
        mean = ops.sum(overlaps * weight, axis=-1, keepdims=True) / count
        deviation = ops.square(overlaps - mean) * weight
        std = ops.sqrt(ops.sum(deviation, axis=-1, keepdims=True) / ops.maximum(count - 1, 1))

        centers = (candidate_anchors[..., :2] + candidate_anchors[..., 2:]) / 2
        to_sides = box_ops.distances_from_boxes(centers, boxes[:, :, None])
        inside = ops.min(to_sides, axis=-1) > INSIDE_MARGIN
        return exists & inside & (overlaps >= mean + std), overlaps


def _resolve(positive, overlaps, candidates, num_locations):
    """One box a location: the one with the largest overlap, the first of equals, or -1."""
    batch, num_boxes, _ = ops.shape(positive)
    # Every image has its own run of segments; what is not positive goes to one spare at its end.
    segment = ops.where(positive, candidates, num_locations)
    segment = segment + ops.arange(batch)[:, None, None] * (num_locations + 1)
    segment = ops.reshape(segment, (-1,))
    num_segments = batch * (num_locations + 1)

    overlaps = ops.reshape(overlaps, (-1,))
    best = ops.take(ops.segment_max(overlaps, segment, num_segments), segment)
    # Counting down from N, the largest rank is the first box; 0 is none.
    rank = ops.broadcast_to((num_boxes - ops.arange(num_boxes))[None, :, None], ops.shape(positive))
    rank = ops.where(overlaps >= best, ops.reshape(rank, (-1,)), 0)
    rank = ops.segment_max(rank, segment, num_segments)
    rank = ops.reshape(rank, (batch, num_locations + 1))[:, :num_locations]
    return ops.where(rank > 0, num_boxes - rank, -1)
