"""The comparison of detections, on which other tests rely, can tell right from wrong."""

import numpy as np
import pytest
from common import assert_same_detections, pairwise_iou

FOUND = {
    "boxes": np.float32([[0, 0, 10, 10], [50, 50, 90, 90], [0, 0, 10, 10], [-1, -1, -1, -1]]),
    "classes": np.int32([0, 1, 2, -1]),
    "confidence": np.float32([0.9, 0.5, 0.5, -1]),
}


def changed(key, row, value):
    values = FOUND[key].copy()
    values[row] = value
    return {**FOUND, key: values}


def reordered(rows):
    return {key: values[list(rows)] for key, values in FOUND.items()}


def test_equal_scores_may_change_places_and_nothing_else_may():
    assert_same_detections(FOUND, reordered([0, 2, 1, 3]))
    assert_same_detections(FOUND, reordered([0, 2, 1]))  # without padding
    assert_same_detections(changed("confidence", 0, 0.9005), FOUND)
    assert_same_detections(changed("boxes", 1, [50.4, 50, 90, 90]), FOUND)
    with pytest.raises(AssertionError, match="does not come first"):
        assert_same_detections(reordered([1, 0, 2, 3]), FOUND)


@pytest.mark.parametrize(
    "other",
    [
        changed("boxes", 0, [0, 0, 10, 11]),
        changed("classes", 0, 2),
        changed("confidence", 0, 0.95),
        reordered([0, 1]),
        reordered([0, 0, 1, 2]),  # one twice
    ],
)
def test_what_differs_is_told(other):
    for pair in ((other, FOUND), (FOUND, other)):
        with pytest.raises(AssertionError, match="found"):
            assert_same_detections(*pair)


def test_at_the_threshold_a_detection_may_be_missing():
    assert_same_detections(FOUND, reordered([0]), threshold=0.4995)
    with pytest.raises(AssertionError, match="found alone"):
        assert_same_detections(FOUND, reordered([0]), threshold=0.4)


def test_a_batch_is_compared_image_by_image():
    batch = {key: np.stack([values, values]) for key, values in FOUND.items()}
    other = {key: np.stack([values, values]) for key, values in reordered([0, 1, 1, 3]).items()}
    assert_same_detections(batch, batch)
    with pytest.raises(AssertionError, match="expected, not found: class 2"):
        assert_same_detections({k: np.stack([batch[k][0], other[k][0]]) for k in batch}, batch)


def test_iou():
    iou = pairwise_iou([[0, 0, 10, 10]], [[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]])
    np.testing.assert_allclose(iou, [[1, 1 / 3, 0]])
