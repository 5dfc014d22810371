import numpy as np
import pytest
from assigners.assigning import CENTERED, assign, cells, inside_image, random_boxes

from keras_gflv2.assigners import FCOSAssigner
from keras_gflv2.grid import AnchorGrid

RANGES = [(-1, 64), (64, 128), (128, 256), (256, 512), (512, np.inf)]


def dense_assignment(boxes, ignored, counts, locations, radius):
    """The rule of FCOS location by location; box index and validity (A,)."""
    box_index, valid = np.full(len(locations), -1), counts.copy()
    for a, (column, row, stride, level, _, _) in enumerate(locations):
        x, y = (column + 0.5) * stride, (row + 0.5) * stride
        smallest = np.inf
        for n, (x1, y1, x2, y2) in enumerate(boxes):
            distances = x - x1, y - y1, x2 - x, y2 - y
            if ignored[n]:
                valid[a] &= min(distances) <= 0
                continue
            away = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
            near = radius is None or away < radius * stride
            lower, upper = RANGES[int(level)]
            in_range = lower <= max(distances) <= upper
            area = (x2 - x1) * (y2 - y1)
            if min(distances) > 0 and near and in_range and area < smallest:
                smallest, box_index[a] = area, n
    box_index[~valid] = -1
    return box_index, valid


@pytest.mark.parametrize("radius", [1.5, None])
@pytest.mark.parametrize("image_size", [(256, 320), (200, 131)])
def test_assignment_equals_the_rule_location_by_location(image_size, radius):
    rng = np.random.default_rng(sum(image_size))
    boxes = random_boxes(rng, 30, image_size, longest=150)
    boxes[:5] = boxes[:5].round()
    boxes[-1] = boxes[-2]  # the first of equals
    ignored = np.isin(np.arange(30), (3, 11))
    found, valid = assign(
        FCOSAssigner(center_radius=radius),
        CENTERED,
        [boxes],
        (256, 320),
        image_sizes=np.array([image_size]),
        ignored=[ignored],
    )
    locations = cells((256, 320))
    counts = inside_image(locations, image_size)
    expected, expected_valid = dense_assignment(
        boxes.astype("float64"), ignored, counts, locations.astype("float64"), radius
    )
    assert (expected >= 0).sum() > 20
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(valid[0], expected_valid)


def test_center_sampling_takes_the_nine_cells_around_a_center_at_a_cell():
    box = np.float32([[68 - 30, 68 - 30, 68 + 30, 68 + 30]])  # (68, 68) is the point of a cell
    found, _ = assign(FCOSAssigner(), CENTERED, [box], (128, 128))
    finest = found[0, :256].reshape(16, 16)
    expected = np.full((16, 16), -1)
    expected[7:10, 7:10] = 0
    np.testing.assert_array_equal(finest, expected)


def test_a_point_on_the_side_of_the_square_around_a_center_is_outside():
    box = np.float32([[30, 30, 90, 90]])  # the square reaches from 48 to 72 on the finest level
    for shift, expected in ((0, [6, 7, 8]), (4, [7, 8]), (-4, [6, 7])):
        found, _ = assign(
            FCOSAssigner(), CENTERED, [box + shift * np.float32([1, 0])[[0, 1, 0, 1]]], (128, 128)
        )
        columns = np.nonzero(found[0, :256].reshape(16, 16) == 0)[1]
        assert sorted(set(columns)) == expected


def test_a_box_of_an_area_beyond_float32_is_a_box():
    boxes = np.float32([[4, 4, 9, 9], [-3e30, -3e30, 3e30, 3e30]])
    found, _ = assign(FCOSAssigner(center_radius=None), CENTERED, [boxes], (128, 128))
    assert found[0, -1] == 1  # the coarsest level


@pytest.mark.parametrize("farthest, levels", [(63, [0]), (64, [0, 1]), (65, [1])])
def test_a_limit_between_two_levels_belongs_to_both(farthest, levels):
    grid = AnchorGrid(strides=(8, 16), offset=0.5)
    assigner = FCOSAssigner(center_radius=None, ranges=(64,))
    positive = []
    for level, location, (x, y) in ((0, 5, (12, 12)), (1, 16, (8, 8))):
        box = np.float32([[x - 4, y - farthest, x + 4, y + 4]])
        found, _ = assign(assigner, grid, [box], (32, 32))
        positive += [level] if found[0, location] == 0 else []
    assert positive == levels


def test_a_point_on_the_side_of_a_box_is_outside():
    box = np.float32([[4, 4, 20, 20]])  # points at 4, 12 and 20
    found, _ = assign(FCOSAssigner(center_radius=None), CENTERED, [box], (32, 32))
    np.testing.assert_array_equal(np.flatnonzero(found[0, :16] >= 0), [5])


def test_ranges_that_do_not_fit_the_levels_are_refused():
    with pytest.raises(ValueError, match="`ranges` must have one limit between every two of the 5"):
        assign(FCOSAssigner(ranges=(64, 128)), CENTERED, [np.zeros((1, 4))], (64, 64))
