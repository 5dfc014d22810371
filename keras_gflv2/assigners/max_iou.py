"""Max-IoU assignment: objects and anchors in, one box index per anchor out."""

import keras
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.assigners.assigner import Assigner
from keras_gflv2.grid import SIZE_MULTIPLE
from keras_gflv2.targets import Assignment

# The overlap of what does not count: below that of anchors and boxes that do not touch.
NO_OVERLAP = -1.0


@keras.saving.register_keras_serializable(package="keras_gflv2")
class MaxIoUAssigner(Assigner):
    """The assignment of RetinaNet (Lin et al., 2017) by the overlap of anchors and boxes.

    An anchor answers for the box that it overlaps most when their IoU reaches
    `positive_threshold`, and is background when all its IoUs are below `negative_threshold`. In
    between it does not count. After that every box, in the order given, takes all anchors that
    share its own largest IoU, so that no visible object is left without an anchor.

    Args:
        positive_threshold: least IoU of a positive anchor.
        negative_threshold: IoU that background stays below.
        min_positive_overlap: least IoU at which a box takes its best anchors. 0 stands for any
            overlap at all: a box that touches no anchor takes none.
        ignore_threshold: an anchor is neither positive nor negative when more than this part of it
            lies inside one ignored box.
        size_multiple: images of a batch count up to their size rounded up to a multiple of this.

    Call arguments, and what it returns: see `Assigner`.

    Raises:
        ValueError: the thresholds are not in order.
    """

    def __init__(
        self,
        positive_threshold: float = 0.5,
        negative_threshold: float = 0.4,
        min_positive_overlap: float = 0.0,
        ignore_threshold: float = 0.5,
        size_multiple: int = SIZE_MULTIPLE,
    ):
        if not 0 <= negative_threshold <= positive_threshold <= 1:
            raise ValueError(
                "`negative_threshold` must be at most `positive_threshold`, both in 0..1; got "
                f"negative_threshold={negative_threshold}, positive_threshold={positive_threshold}."
            )
        self.positive_threshold = positive_threshold
        self.negative_threshold = negative_threshold
        self.min_positive_overlap = min_positive_overlap
        self.ignore_threshold = ignore_threshold
        self.size_multiple = size_multiple

    def __call__(self, targets, at):
        # The overlaps of one image at a time: with nine anchors per cell those of a batch would
        # be gigabytes.
        anchors = at.anchors
        box_index, valid = ops.map(
            lambda image: self._assign(anchors, *image),
            (
                box_ops.zero_unless_finite(targets.boxes),
                targets.is_object,
                ops.zeros_like(targets.is_object)
                if targets.ignored is None
                else targets.is_ignored,
                self.inside(targets, at),
            ),
        )
        return Assignment(box_index, valid)

    def _assign(self, anchors, boxes, is_object, is_ignored, counts):
        """Box index and validity (A,) of the anchors (A, 4) of one image with boxes (N, 4)."""
        shared = _intersections(anchors, boxes)  # (A, N)
        areas = _product(anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1])[:, None]
        hidden = (shared > self.ignore_threshold * areas) & is_ignored
        counts = counts & ~ops.any(hidden, axis=-1)

        box_areas = _product(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        union = areas + box_areas - shared
        overlaps = shared / ops.maximum(union, 1e-6)
        overlaps = ops.where(counts[:, None] & is_object, overlaps, NO_OVERLAP)
        best = ops.max(overlaps, axis=-1)  # (A,)
        nearest = ops.cast(ops.argmax(overlaps, axis=-1), "int32")
        box_index = ops.where(best >= self.positive_threshold, nearest, -1)

        taken_by = _last_taker(overlaps, self.min_positive_overlap)
        box_index = ops.where(taken_by >= 0, taken_by, box_index)
        return box_index, counts & ((box_index >= 0) | (best < self.negative_threshold))


def _last_taker(overlaps, min_overlap):
    """The last box (A,) whose largest overlap an anchor has, or -1; from overlaps (A, N)."""
    num_anchors, num_boxes = ops.shape(overlaps)
    largest = ops.max(overlaps, axis=0)  # (N,)
    # A compiler may compute an overlap twice and round it differently: the first of the best is
    # found by its index, too.
    first = ops.cast(ops.argmax(overlaps, axis=0), "int32")
    is_best = (overlaps >= largest) | (ops.arange(num_anchors)[:, None] == first)
    takes = is_best & (largest > 0.0) & (largest >= min_overlap)
    return ops.max(ops.where(takes, ops.arange(num_boxes), -1), axis=-1)


def _intersections(anchors, boxes):
    """Areas (A, N) shared by anchors (A, 4) and boxes (N, 4), one axis after the other."""
    sides = []
    for axis in (0, 1):
        start = ops.maximum(anchors[:, None, axis], boxes[:, axis])
        end = ops.minimum(anchors[:, None, axis + 2], boxes[:, axis + 2])
        sides.append(ops.maximum(end - start, 0.0))
    return _product(*sides)


def _product(width, height):
    """Areas, rounded before anything is added to them.

    Compilers fuse a product and a sum into one operation that rounds once. Then other anchors share
    the largest overlap of a box than without a compiler; the maximum keeps the two apart.
    """
    return ops.maximum(width * height, 0.0)
