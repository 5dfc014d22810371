import numpy as np
import pytest
from assigners.assigning import (
    NINE_ANCHORS,
    anchors_of,
    assign,
    cells,
    inside_image,
    pairwise,
    random_boxes,
)

from keras_gflv2.assigners import MaxIoUAssigner
from keras_gflv2.grid import AnchorGrid

GRID = AnchorGrid(strides=(16,), scale=2)  # anchors of 32 pixels, all that a test can count


def dense_assignment(boxes, ignored, counts, anchors, min_positive_overlap=0.0):
    """The rule of RetinaNet box by box, as the paper tells it; float32 for the same ties."""
    shared, anchor_areas, box_areas = pairwise(anchors, boxes)
    counts = counts & ~((shared / anchor_areas[:, None] > 0.5) & ignored).any(1)
    overlaps = shared / (anchor_areas[:, None] + box_areas - shared)
    box_index, best = np.full(len(anchors), -1), np.zeros(len(anchors))
    objects = [n for n in range(len(boxes)) if not ignored[n]]
    for n in objects:
        better = counts & (overlaps[:, n] > best)
        best[better] = overlaps[better, n]
        box_index[better & (best >= 0.5)] = n
    valid = counts & ((best < 0.4) | (best >= 0.5))
    for n in objects:
        largest = overlaps[counts, n].max()
        if largest > max(min_positive_overlap, 1e-9):
            own = counts & (overlaps[:, n] == largest)
            box_index[own], valid[own] = n, True
    return box_index, valid


@pytest.mark.parametrize("min_positive_overlap", [0.0, 0.3])
@pytest.mark.parametrize("image_size", [(256, 320), (200, 131)])
def test_assignment_equals_the_rule_box_by_box(image_size, min_positive_overlap):
    rng = np.random.default_rng(sum(image_size))
    boxes = random_boxes(rng, 30, image_size, longest=150)
    boxes[:4] = boxes[:4].round()  # with ties
    ignored = np.isin(np.arange(30), (3, 11))
    found, valid = assign(
        MaxIoUAssigner(min_positive_overlap=min_positive_overlap),
        NINE_ANCHORS,
        [boxes],
        (256, 320),
        image_sizes=np.array([image_size]),
        ignored=[ignored],
    )
    locations = cells((256, 320))
    counts = np.repeat(inside_image(locations, image_size), 9)
    expected, expected_valid = dense_assignment(
        boxes, ignored, counts, anchors_of(locations, NINE_ANCHORS), min_positive_overlap
    )
    assert (expected >= 0).sum() > 50 and (~expected_valid[counts]).sum() > 100
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(valid[0], expected_valid)


def test_between_the_thresholds_an_anchor_does_not_count():
    # The second anchor, centered at (16, 0), shares 32 x 32 / (32 x 32 + 32 x 36) = 4/9 with it.
    second = [0, -16, 32, 16]
    boxes = np.float32([[second[0] - 18, -16, second[2] + 18, 20], [48, -16, 80, 16]])
    found, valid = assign(MaxIoUAssigner(min_positive_overlap=1.0), GRID, [boxes[:1]], (32, 64))
    overlap = 1024 / (68 * 36)
    assert 0.4 < overlap < 0.5
    assert found[0, 1] == -1 and not valid[0, 1] and valid[0, 3]


def test_a_box_takes_all_anchors_that_share_its_largest_overlap():
    # Between the anchors at (16, 0) and (32, 0), 1/3 with each of them.
    found, valid = assign(MaxIoUAssigner(), GRID, [np.float32([[16, -8, 32, 8]])], (32, 64))
    np.testing.assert_array_equal(np.flatnonzero(found[0] == 0), [1, 2])
    assert valid.all()


def test_the_last_box_keeps_an_anchor_that_two_boxes_take():
    boxes = np.float32([[0, -16, 32, 16], [8, -8, 24, 8]])  # the anchor itself, and a part of it
    found, _ = assign(MaxIoUAssigner(), GRID, [boxes], (32, 64))
    np.testing.assert_array_equal(np.flatnonzero(found[0] >= 0), [1])
    assert found[0, 1] == 1


def test_a_box_that_touches_no_anchor_takes_none():
    found, valid = assign(MaxIoUAssigner(), GRID, [np.float32([[900, 900, 990, 990]])], (32, 64))
    assert np.all(found == -1) and valid.all()


def test_thresholds_that_are_not_in_order_are_refused():
    with pytest.raises(ValueError, match="`negative_threshold` must be at most"):
        MaxIoUAssigner(positive_threshold=0.4, negative_threshold=0.5)
