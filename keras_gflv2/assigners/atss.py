"""ATSS: padded boxes and pyramid shapes in, one box index a location out."""

import keras
from keras import ops

from keras_gflv2 import boxes as box_ops

# A centre counts as inside a box when it is farther than this from every side, in pixels.
INSIDE_MARGIN = 0.01
# PyTorch's topk has one algorithm for maps from this many times `topk` locations on, and another
# for smaller ones.
TIE_SIZE = 64


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ATSSAssigner:
    """Adaptive Training Sample Selection (Zhang et al., 2020), with static shapes.

    Candidates of a box are the `topk` locations of each level nearest to its centre. Those whose
    anchor, a square of side `anchor_scale` strides, overlaps the box by at least the mean plus the
    standard deviation of all the box's candidates, and whose centre lies inside the box, are
    positive. A location claimed by several boxes goes to the one it overlaps most, the first of
    equals.

    Locations lie on a grid, so the `topk` nearest are inside a window of `topk` x `topk` cells
    around the box's centre: the cost does not grow with the image.

    Args:
        topk: candidates a level and box.
        anchor_scale: side of the square anchor in strides.
        ignore_threshold: a location is neither positive nor negative when more than this part of
            its anchor lies inside one ignored box.
        size_multiple: images of a batch count up to their size rounded up to a multiple of this,
            to which the official pipeline pads each.

    Call arguments:
        boxes: (B, N, 4) xyxy in pixels of the network's input.
        classes: (B, N); -1 marks padding.
        level_shapes: list of (rows, columns), one a level.
        strides: list of int, one a level.
        image_sizes: (B, 2) height and width of every image inside the batch, or None where each
            fills it. Locations beyond the size, rounded up to `size_multiple`, do not count.
        ignored: (B, N), non-zero for boxes to ignore (crowds, difficult objects), or None.

    Returns:
        Tuple of: box_indices (B, A) int32, the box that a location answers for or -1; and counted
        (B, A) bool, whether the location takes part in the classification loss.
    """

    def __init__(
        self,
        topk: int = 9,
        anchor_scale: float = 8.0,
        ignore_threshold: float = 0.5,
        size_multiple: int = 32,
    ):
        self.topk = topk
        self.anchor_scale = anchor_scale
        self.ignore_threshold = ignore_threshold
        self.size_multiple = size_multiple

    def __call__(self, boxes, classes, level_shapes, strides, image_sizes=None, ignored=None):
        boxes = ops.cast(boxes, "float32")
        present = ops.cast(classes, "float32") >= 0
        if image_sizes is not None:
            image_sizes = _round_up(image_sizes, self.size_multiple)
        sizes = _valid_sizes(image_sizes, level_shapes, strides, ops.shape(boxes)[0])
        points, location_strides = box_ops.locations(level_shapes, strides)
        anchors = box_ops.boxes_from_distances(
            points, ops.repeat(location_strides * self.anchor_scale / 2, 4, axis=-1)
        )  # (A, 4)
        counted = _inside(points, location_strides, sizes)  # (B, A)
        in_ignored = None
        if ignored is not None:
            to_ignore = present & (ops.cast(ignored, "float32") > 0)
            present = present & ~to_ignore
            in_ignored = self._in_ignored(anchors, boxes, to_ignore)  # (B, A)
            counted = counted & ~in_ignored

        candidates, exists = self._candidates(boxes, level_shapes, strides, sizes)  # (B, N, K)
        positive, overlaps = self._select(boxes, anchors, candidates, exists, in_ignored)
        positive = positive & present[..., None]
        return _resolve(positive, overlaps, candidates, ops.shape(points)[0]), counted

    def _in_ignored(self, anchors, boxes, to_ignore):
        """Whether most of a location's anchor lies inside one ignored box: (B, A) bool."""
        shared = box_ops.intersection(anchors[None, :, None], boxes[:, None])  # (B, A, N)
        part = shared / box_ops.area(anchors)[None, :, None]
        return ops.any((part > self.ignore_threshold) & to_ignore[:, None], axis=-1)

    def _candidates(self, boxes, level_shapes, strides, sizes):
        """The nearest locations of each level: indices (B, N, K) and whether they exist."""
        indices, exists = [], []
        offset = 0
        for level, ((rows, columns), stride) in enumerate(zip(level_shapes, strides)):
            centre = (boxes[..., :2] + boxes[..., 2:]) / (2.0 * stride)  # (B, N, 2) in cells
            row, dy = self._window(centre[..., 1], sizes[:, level, 0])  # (B, N, topk)
            column, dx = self._window(centre[..., 0], sizes[:, level, 1])
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

    def _window(self, centre, size):
        """`topk` cells of one axis around `centre` and their squared distances, inf outside."""
        size = size[:, None]
        nearest = ops.cast(ops.round(ops.clip(centre, -1e6, 1e6)), "int32")
        start = ops.minimum(nearest - self.topk // 2, size - self.topk)
        cells = ops.maximum(start, 0)[..., None] + ops.arange(self.topk)  # (B, N, topk)
        distance = ops.square(ops.cast(cells, "float32") - centre[..., None])
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

        centres = (candidate_anchors[..., :2] + candidate_anchors[..., 2:]) / 2
        to_sides = box_ops.distances_from_boxes(centres, boxes[:, :, None])
        inside = ops.min(to_sides, axis=-1) > INSIDE_MARGIN
        return exists & inside & (overlaps >= mean + std), overlaps

    def get_config(self):
        return {
            "topk": self.topk,
            "anchor_scale": self.anchor_scale,
            "ignore_threshold": self.ignore_threshold,
            "size_multiple": self.size_multiple,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def _round_up(sizes, multiple):
    sizes = ops.cast(ops.ceil(ops.cast(sizes, "float32")), "int32")
    return -(-sizes // multiple) * multiple


def _valid_sizes(image_sizes, level_shapes, strides, batch_size):
    """Rows and columns of every level that lie inside each image: (B, levels, 2) int32."""
    rows_and_columns = ops.stack(
        [ops.stack([ops.cast(s, "int32") for s in shape]) for shape in level_shapes]
    )  # (levels, 2)
    if image_sizes is None:
        return ops.tile(rows_and_columns[None], (batch_size, 1, 1))
    strides = ops.convert_to_tensor(strides, dtype="int32")
    cells = -(-image_sizes[:, None, :] // strides[None, :, None])
    return ops.minimum(cells, rows_and_columns[None])


def _inside(points, location_strides, sizes):
    """Whether each location lies inside each image: (B, A) bool."""
    cells = ops.cast(points / location_strides, "int32")  # (A, 2) column, row
    level = ops.cast(ops.log2(location_strides / location_strides[0]) + 0.5, "int32")  # (A, 1)
    limits = ops.take(sizes, level[:, 0], axis=1)  # (B, A, 2) rows, columns
    return (cells[None, :, 1] < limits[..., 0]) & (cells[None, :, 0] < limits[..., 1])


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
