import math

import numpy as np
import pytest
from assigners.assigning import CENTERED, assign, cells, inside_image, random_boxes

from keras_gflv2.assigners import FoveaAssigner

STRIDES = (8, 16, 32, 64, 128)
RANGES = [(1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)]


def painted(boxes, ignored, image_size, batch_size, sigma=0.4):
    """The rule of FoveaBox: boxes are painted on the maps, from the largest to the smallest."""
    maps = []
    size = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    for stride, (lower, upper) in zip(STRIDES, RANGES):
        whole = np.full([-(-side // stride) for side in batch_size], -1)
        # Of the image alone, as it is padded by itself.
        rows, columns = (-(-(-(-side // 32) * 32) // stride) for side in image_size)
        for n in sorted(np.flatnonzero(~ignored), key=lambda n: -size[n]):
            if not lower <= size[n] <= upper:
                continue
            spans = []
            for start, end, count in ((0, 2, columns), (1, 3, rows)):
                center = (boxes[n, start] + boxes[n, end]) / 2 / stride
                half = sigma * (boxes[n, end] - boxes[n, start]) / 2 / stride
                first, last = math.ceil(center - half - 0.5), math.floor(center + half - 0.5)
                first, last = (min(max(cell, 0), count - 1) for cell in (first, last))
                spans.append(slice(first, last + 1))
            whole[spans[1], spans[0]] = n
        maps.append(whole.ravel())
    return np.concatenate(maps)


@pytest.mark.parametrize("image_size", [(256, 320), (200, 131)])
@pytest.mark.parametrize("sigma", [0.4, 0.9])
def test_assignment_equals_painting_from_the_largest_to_the_smallest(image_size, sigma):
    rng = np.random.default_rng(sum(image_size))
    boxes = random_boxes(rng, 40, image_size)
    boxes[-1] = boxes[-2]  # the last of equals
    ignored = np.isin(np.arange(40), (3, 11))
    found, valid = assign(
        FoveaAssigner(sigma),
        CENTERED,
        [boxes],
        (256, 320),
        image_sizes=np.array([image_size]),
        ignored=[ignored],
    )
    locations = cells((256, 320))
    points = (locations[:, None, :2] + 0.5) * locations[:, None, 2:3]
    hidden = ((points > boxes[ignored, :2]) & (points < boxes[ignored, 2:])).all(-1).any(-1)
    expected_valid = inside_image(locations, image_size) & ~hidden
    expected = painted(boxes.astype("float64"), ignored, image_size, (256, 320), sigma)
    assert (expected >= 0).sum() > 40
    np.testing.assert_array_equal(found[0], np.where(expected_valid, expected, -1))
    np.testing.assert_array_equal(valid[0], expected_valid)


def test_the_size_of_a_box_chooses_its_levels():
    level = cells((256, 256))[:, 3]
    for side, levels in ((24, {0}), (32, {0, 1}), (64, {0, 1, 2}), (65, {1, 2}), (200, {2, 3})):
        box = np.float32([[128 - side / 2, 128 - side / 2, 128 + side / 2, 128 + side / 2]])
        found, _ = assign(FoveaAssigner(sigma=1.0), CENTERED, [box], (256, 256))
        assert set(level[found[0] == 0]) == levels


def test_the_ranges_are_the_official_ones():
    np.testing.assert_array_equal(FoveaAssigner().ranges(STRIDES), RANGES)


def test_the_central_part_of_a_box_is_positive():
    # 0.4 of 60 pixels around 68: from 56 to 80, where the cells with centers 60, 68 and 76 are.
    box = np.float32([[38, 38, 98, 98]])
    found, _ = assign(FoveaAssigner(), CENTERED, [box], (128, 128))
    expected = np.full((16, 16), -1)
    expected[7:10, 7:10] = 0
    np.testing.assert_array_equal(found[0, :256].reshape(16, 16), expected)


def test_a_box_whose_center_is_beyond_the_edge_gets_the_cells_at_the_edge():
    box = np.float32([[60, 20, 100, 60]])  # its center is (80, 40), the image ends at 64
    found, _ = assign(FoveaAssigner(), CENTERED, [box], (64, 64))
    rows, columns = np.nonzero(found[0, :64].reshape(8, 8) == 0)
    assert set(columns) == {7} and set(rows) == {4, 5}


def test_a_box_the_wrong_way_around_takes_nothing():
    for box in ([90, 20, 70, 60], [90, 90, 70, 70], [40, 40, 10, 10]):
        found, _ = assign(FoveaAssigner(), CENTERED, [np.float32([box])], (64, 64))
        assert np.all(found == -1)


def test_a_sigma_without_meaning_is_refused():
    with pytest.raises(ValueError, match="`sigma` must be above 0"):
        FoveaAssigner(sigma=0)
