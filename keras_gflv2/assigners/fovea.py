"""FoveaBox: objects and points in, one box index per location out."""

import keras
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.assigners.point_assigner import PointAssigner
from keras_gflv2.grid import SIZE_MULTIPLE


@keras.saving.register_keras_serializable(package="keras_gflv2")
class FoveaAssigner(PointAssigner):
    """The assignment of FoveaBox (Kong et al., 2020).

    A box goes to every level whose range of sizes holds the square root of its area, and there to
    the cells in its central part, at least the one that this part begins and ends in. A location
    answers for the smallest such box, the last of equals.

    The edge of a level is two strides: 16 to 256 pixels. Its range reaches from one edge to four;
    that of the finest level begins at one pixel, and that of the coarsest ends at eight edges.

    Args:
        sigma: width and height of the central part in those of its box.
        size_multiple: images of a batch count up to their size rounded up to a multiple of this.

    Call arguments, and what it returns: see `Assigner`. A location whose point lies inside an
    ignored box is neither positive nor negative.

    Raises:
        ValueError: `sigma` is not in 0..1.
    """

    last_of_equals = True

    def __init__(self, sigma: float = 0.4, size_multiple: int = SIZE_MULTIPLE):
        if not 0 < sigma <= 1:
            raise ValueError(f"`sigma` must be above 0 and at most 1; got {sigma}.")
        self.sigma = sigma
        self.size_multiple = size_multiple

    def ranges(self, strides):
        """Smallest and largest size of boxes per level, in pixels: a list of pairs."""
        ranges = [[2 * stride, 8 * stride] for stride in strides]
        ranges[0][0], ranges[-1][1] = 1, 16 * strides[-1]
        return ranges

    def size(self, boxes):
        """Square roots of the areas (B, N), in pixels."""
        return ops.sqrt(ops.maximum(box_ops.area(boxes), 0.0))

    def candidates(self, boxes, at, sizes):
        size = self.size(boxes)[:, None]  # (B, 1, N)
        ranges = ops.convert_to_tensor(self.ranges(at.grid.strides), dtype="float32")
        ranges = ops.take(ranges, at.levels, axis=0)  # (A, 2)
        # Boxes without an extent would get the cell at the edge of the map.
        has_extent = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
        candidates = (size >= ranges[:, :1]) & (size <= ranges[:, 1:]) & has_extent[:, None]
        last_cells = ops.take(ops.cast(sizes, "float32") - 1.0, at.levels, axis=1)  # (B, A, 2)
        cells = ops.cast(at.cells, "float32")
        for axis in (0, 1):
            first, last = self._central_cells(boxes, at.strides, axis)  # (B, A, N) each
            limit = last_cells[..., 1 - axis, None]  # (B, A, 1)
            cell = cells[:, axis, None]
            candidates = candidates & (cell >= ops.clip(first, 0.0, limit))
            candidates = candidates & (cell <= ops.clip(last, 0.0, limit))
        return candidates

    def _central_cells(self, boxes, strides, axis):
        """First and last cell of the central part of boxes (B, N, 4) along an axis: (B, A, N)."""
        start, end = boxes[:, None, :, axis] / strides, boxes[:, None, :, axis + 2] / strides
        half = 0.5 * (end - start)
        first = ops.ceil(start + (1.0 - self.sigma) * half - 0.5)
        last = ops.floor(start + (1.0 + self.sigma) * half - 0.5)
        return first, last
