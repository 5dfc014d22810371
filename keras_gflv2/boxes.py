"""Box geometry and formats: the few formulas that assignment, losses and decoding share.

Boxes are xyxy in pixels of the network's input unless a docstring says otherwise; distances are
left, top, right, bottom.
"""

import keras
from keras import ops


def ceil_divide(value, divisor):
    """Quotient rounded up; without negative numbers, which some runtimes divide otherwise."""
    return (value + divisor - 1) // divisor


def boxes_from_distances(points, distances):
    """Boxes (..., 4) whose sides lie `distances` (..., 4) away from `points` (..., 2)."""
    return ops.concatenate([points - distances[..., :2], points + distances[..., 2:]], axis=-1)


def distances_from_boxes(points, boxes):
    """Distances (..., 4) from `points` (..., 2) to the four sides of `boxes` (..., 4)."""
    return ops.concatenate([points - boxes[..., :2], boxes[..., 2:] - points], axis=-1)


def clip(boxes, heights, widths):
    """Clips `boxes` to 0..width and 0..height; sizes broadcast against (..., 1)."""
    limits = ops.concatenate([widths, heights, widths, heights], axis=-1)
    return ops.maximum(ops.minimum(boxes, limits), 0.0)


def area(boxes):
    """Area (...) of `boxes` (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a, b):
    """Area (...) shared by the boxes `a` and `b` (..., 4), which broadcast."""
    top_left = ops.maximum(a[..., :2], b[..., :2])
    bottom_right = ops.minimum(a[..., 2:], b[..., 2:])
    size = ops.maximum(bottom_right - top_left, 0.0)
    return size[..., 0] * size[..., 1]


def iou(a, b, epsilon=1e-6):
    """Intersection over union (...) of the boxes `a` and `b` (..., 4), which broadcast."""
    shared = intersection(a, b)
    return shared / ops.maximum(area(a) + area(b) - shared, epsilon)


def pairwise_iou(a, b, epsilon=1e-6):
    """Intersection over union (..., K, L) of each of `a` (..., K, 4) with each of `b` (..., L, 4).

    The numbers of `iou`, several times as fast for many pairs: coordinate by coordinate.
    """
    ax1, ay1, ax2, ay2 = (a[..., i, None] for i in range(4))
    bx1, by1, bx2, by2 = (b[..., None, :, i] for i in range(4))
    width = ops.maximum(ops.minimum(ax2, bx2) - ops.maximum(ax1, bx1), 0.0)
    height = ops.maximum(ops.minimum(ay2, by2) - ops.maximum(ay1, by1), 0.0)
    shared = width * height
    areas = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1)
    return shared / ops.maximum(areas - shared, epsilon)


def giou(a, b, epsilon=1e-7):
    """Generalized IoU in -1..1 (Rezatofighi et al., 2019) of the boxes `a` and `b` (..., 4)."""
    shared = intersection(a, b)
    union = ops.maximum(area(a) + area(b) - shared, epsilon)
    hull = ops.concatenate(
        [ops.minimum(a[..., :2], b[..., :2]), ops.maximum(a[..., 2:], b[..., 2:])], axis=-1
    )
    hull_area = ops.maximum(area(hull), epsilon)
    return shared / union - (hull_area - union) / hull_area


def zero_unless_finite(boxes):
    """`boxes` (..., 4), with zeros for those that have a side that is not finite."""
    return ops.where(ops.all(ops.isfinite(boxes), axis=-1, keepdims=True), boxes, 0.0)


def convert_sides(lengths, source, target, height, width):
    """Lengths (..., 4) at the left, top, right and bottom side, in the unit of another format.

    That is a pixel or, of a relative format, the width or height that it refers to. Their order is
    that of the sides in every format.
    """
    is_relative = [name.lower().startswith("rel_") for name in (source, target)]
    if is_relative[0] == is_relative[1]:
        return lengths
    lengths = ops.cast(lengths, "float32")
    sizes = ops.cast(ops.stack([width, height, width, height]), "float32")
    return lengths / sizes if is_relative[1] else lengths * sizes


def convert(boxes, source, target, height, width):
    """Boxes (..., 4) of one of KerasCV's formats in another; relative ones refer to the sizes."""
    boxes = ops.cast(boxes, "float32")
    if source.lower() == target.lower():
        return boxes
    return keras.utils.bounding_boxes.convert_format(
        boxes, source=source, target=target, height=height, width=width, dtype="float32"
    )
