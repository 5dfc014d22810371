"""Assignments of the official ATSS, FCOS, FoveaBox and RetinaNet, location by location."""

import keras
import numpy as np
import pytest
from assigners.assigning import DETECTORS, compiled, padded_batch
from common import golden, to_numpy

from keras_gflv2.targets import Targets

BACKGROUND = 3


def boxes_of(detector, case):
    """Boxes and classes of two images, and the size of their batch."""
    if case == "random":
        data, prefix, size = golden("assignments.npz"), f"{detector}__random_gt_", (256, 320)
        return *([data[f"{prefix}{key}_{i}"] for i in (0, 1)] for key in ("boxes", "labels")), size
    data = golden("batches.npz")
    return *([data[f"{key}_{case}_{i}"] for i in (0, 1)] for key in ("boxes", "labels")), (128, 128)


def official_targets(detector, boxes, at):
    """Boxes (A, 4) as numbers that the official detectors learn, written for this test."""
    points, strides, anchors = to_numpy((at.points, at.strides, at.anchors))
    if detector in ("atss", "retina"):
        extent = anchors[:, 2:] - anchors[:, :2]
        shift = ((boxes[:, :2] + boxes[:, 2:]) - (anchors[:, :2] + anchors[:, 2:])) / 2 / extent
        deltas = np.concatenate([shift, np.log((boxes[:, 2:] - boxes[:, :2]) / extent)], -1)
        return deltas / ([0.1, 0.1, 0.2, 0.2] if detector == "atss" else 1.0)
    distances = np.concatenate([points - boxes[:, :2], boxes[:, 2:] - points], -1)
    if detector == "fcos":
        return distances / strides
    return np.log(np.clip(distances / (2 * strides), 1 / 16, 16))


@pytest.mark.parametrize("case", ["random", "0", "1", "2"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_assignment_equals_the_official_one(detector, case):
    assigner, grid = DETECTORS[detector]
    boxes, classes, size = boxes_of(detector, case)
    boxes, classes = padded_batch(boxes, classes)
    at = grid(*size)

    def function(boxes, classes):
        assignment = assigner(Targets(boxes, classes), grid(*size))
        return assignment.box_index, assignment.valid

    convert = keras.ops.convert_to_tensor
    box_index, valid = to_numpy(compiled(function)(convert(boxes), convert(classes)))

    expected = golden("assignments.npz")
    prefix = f"{detector}__{case}_"
    labels = np.where(box_index >= 0, np.take_along_axis(classes, box_index, 1), BACKGROUND)
    np.testing.assert_array_equal(labels, expected[f"{prefix}labels"])
    weights = expected.get(f"{prefix}label_weights", np.ones(labels.shape))
    np.testing.assert_array_equal(valid, weights > 0)
    positive = box_index >= 0
    assert positive.sum() > 10
    for image in (0, 1):
        of_location = boxes[image][np.maximum(box_index[image], 0)]
        targets = official_targets(detector, of_location, at)
        np.testing.assert_allclose(
            targets[positive[image]],
            expected[f"{prefix}box_targets"][image][positive[image]],
            rtol=1e-4,
            atol=1e-4,
        )
