"""What the tests of assigners share: detectors by name, and one call with numpy in and out."""

import keras
import numpy as np
from common import to_numpy

from keras_gflv2.assigners import ATSSAssigner, FCOSAssigner, FoveaAssigner, MaxIoUAssigner
from keras_gflv2.grid import STRIDES, AnchorGrid
from keras_gflv2.targets import Targets

CENTERED = AnchorGrid(offset=0.5)
NINE_ANCHORS = AnchorGrid(scale=4, octaves=3, ratios=(0.5, 1.0, 2.0))
# Under the names of the golden arrays.
DETECTORS = {
    "atss": (ATSSAssigner(), AnchorGrid()),
    "fcos": (FCOSAssigner(), CENTERED),
    "fovea": (FoveaAssigner(), CENTERED),
    "retina": (MaxIoUAssigner(), NINE_ANCHORS),
}


def padded_batch(boxes, classes=None, padding=np.nan, rows=1):
    """Lists of arrays, one per image, as arrays of one length (B, N, 4) and (B, N)."""
    length = -(-(max(len(b) for b in boxes) + rows) // 16) * 16  # few shapes are quick to compile
    together = np.full((len(boxes), length, 4), padding, "float32")
    labels = np.full((len(boxes), length), -1, "int32")
    for i, b in enumerate(boxes):
        together[i, : len(b)] = b
        labels[i, : len(b)] = 0 if classes is None else classes[i]
    return together, labels


def assign(assigner, grid, boxes, size, image_sizes=None, ignored=None, **padding):
    """Box index and validity (B, A) of a list of boxes, which are padded here."""
    boxes, classes = padded_batch(boxes, **padding)
    if ignored is not None:
        marks = np.zeros(classes.shape, "float32")
        for i, marked in enumerate(ignored):
            marks[i, : len(marked)] = marked
        ignored = keras.ops.convert_to_tensor(marks)
    boxes, classes = keras.ops.convert_to_tensor(boxes), keras.ops.convert_to_tensor(classes)

    def function(boxes, classes, ignored):
        assignment = assigner(Targets(boxes, classes, image_sizes, ignored), grid(*size))
        return assignment.box_index, assignment.valid

    if keras.backend.backend() == "jax":  # one program is quicker than a hundred
        function = compiled(function)
    return to_numpy(function(boxes, classes, ignored))


def compiled(function):
    """A function as a compiled training step runs it."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def random_boxes(rng, count, size, longest=250):
    """Boxes (count, 4), some of which reach over the edge of a height and width."""
    height, width = size
    corner = rng.uniform(-0.1, 0.9, (count, 2)) * [width, height]
    return np.concatenate([corner, corner + rng.uniform(5, longest, (count, 2))], -1).astype("f4")


def cells(size, offset=0.0, strides=STRIDES):
    """Of every location of a height and width: column, row, stride, level; and all columns, rows.

    Written for the tests, without the grid of the package. Returns (A, 6) float32.
    """
    found = []
    for level, stride in enumerate(strides):
        rows, columns = (-(-side // stride) for side in size)
        for row in range(rows):
            found += [(column, row, stride, level, columns, rows) for column in range(columns)]
    return np.asarray(found, "float32")


def inside_image(locations, image_size):
    """Which of `cells` begin inside an image that is padded to a multiple of 32: (A,) bool."""
    height, width = (-(-side // 32) * 32 for side in image_size)
    return (locations[:, 0] * locations[:, 2] < width) & (
        locations[:, 1] * locations[:, 2] < height
    )


def anchors_of(locations, grid):
    """Anchors (A, 4) of `cells` by the sizes of a grid without offset, in float32."""
    base = []
    for ratio in grid.ratios:
        for octave in range(grid.octaves):
            size = grid.scale * 2 ** (octave / grid.octaves)
            base.append((size / ratio**0.5 / 2, size * ratio**0.5 / 2))
    half = np.asarray(base, "float32")[None] * locations[:, 2].reshape(-1, 1, 1)  # (cells, K, 2)
    center = (locations[:, :2] * locations[:, 2:3])[:, None]
    return np.concatenate([center - half, center + half], -1).reshape(-1, 4)


def pairwise(anchors, boxes):
    """Shared areas (A, N), and areas (A,) and (N,) of two sets of boxes, in their own precision."""
    corner = np.maximum(anchors[:, None, :2], boxes[None, :, :2])
    shared = np.maximum(np.minimum(anchors[:, None, 2:], boxes[None, :, 2:]) - corner, 0).prod(-1)
    return shared, *((b[:, 2:] - b[:, :2]).prod(-1) for b in (anchors, boxes))
