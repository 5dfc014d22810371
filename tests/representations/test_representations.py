"""What the numbers of a location mean: closed forms, and that targets are what decodes to a box."""

import numpy as np
import pytest
from common import to_numpy

from keras_gflv2 import AnchorGrid
from keras_gflv2.representations import AnchorDeltas, Distances, GeneralDistribution

RETINANET = AnchorGrid(scale=4, octaves=3, ratios=(0.5, 1, 2))
CASES = {
    "relu": (Distances(), AnchorGrid(offset=0.5)),
    "exp in strides": (Distances("exp", unit=2.0), AnchorGrid(offset=0.5)),
    "exp in pixels": (Distances("exp", in_strides=False), AnchorGrid(offset=0.5)),
    "deltas": (AnchorDeltas((0.1, 0.1, 0.2, 0.2)), AnchorGrid()),
    "deltas of many anchors": (AnchorDeltas(), RETINANET),
}


def boxes_around(at):
    """A box (1, A, 4) around every location, none like another."""
    rng = np.random.default_rng(0)
    points = to_numpy(at.points)
    distances = rng.uniform(0.5, 3.0, (len(points), 4)) * to_numpy(at.strides)
    boxes = np.concatenate([points - distances[:, :2], points + distances[:, 2:]], axis=1)
    return boxes[None].astype("float32")


@pytest.mark.parametrize("case", CASES)
def test_the_targets_of_a_box_decode_to_it(case):
    representation, grid = CASES[case]
    at = grid(96, 160)
    boxes = boxes_around(at)
    found = to_numpy(representation.decode(representation.encode(boxes, at), at))
    np.testing.assert_allclose(found, boxes, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("unit", "grid"), [("stride", AnchorGrid()), ("anchor", RETINANET)])
def test_a_sharp_distribution_is_at_its_target(unit, grid):
    representation, at = GeneralDistribution(unit=unit), grid(96, 160)
    distances = np.random.default_rng(0).integers(0, 17, (1, int(at.count), 4))
    logits = 50.0 * np.eye(17, dtype="float32")[distances]
    boxes = to_numpy(representation.decode(logits, at))
    np.testing.assert_allclose(to_numpy(representation.encode(boxes, at)), distances, atol=2e-4)
    assert np.all(to_numpy(representation.spread(logits, at)) < 1e-3)


def test_the_spread_of_a_flat_distribution_is_that_of_its_bins():
    """The standard deviation of 0..16, all alike, is sqrt((17^2 - 1) / 12), in strides."""
    at = AnchorGrid()(64, 64)
    logits = np.zeros((1, int(at.count), 4, 17), "float32")
    spread = to_numpy(GeneralDistribution().spread(logits, at))
    expected = np.sqrt((17**2 - 1) / 12) * to_numpy(at.strides)
    np.testing.assert_allclose(spread[0], np.repeat(expected, 4, axis=1), rtol=1e-5)


def test_units_of_the_anchor_are_strides_where_the_anchor_has_eight():
    at = AnchorGrid(scale=8)(96, 160)
    boxes = boxes_around(at)
    encoded = [
        to_numpy(GeneralDistribution(unit=u).encode(boxes, at)) for u in ("stride", "anchor")
    ]
    np.testing.assert_allclose(*encoded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grid", [AnchorGrid(offset=0.5), RETINANET])
def test_chosen_locations_are_those_of_the_grid(grid):
    at = grid(96, 160)
    indices = np.array([[5, 100, 17], [0, 200, 5]])
    chosen = at.take(indices)
    for name in ("points", "strides", "anchors"):
        all_of_them, some = to_numpy((getattr(at, name), getattr(chosen, name)))
        np.testing.assert_array_equal(some, all_of_them[indices], err_msg=name)


def test_locations_and_anchors_of_a_small_image():
    at = AnchorGrid(strides=(16, 32), scale=2, octaves=2, ratios=(0.25, 1))(30, 40)
    assert at.lengths == [2 * 4 * 4, 1 * 2 * 4]  # 32 x 64 pixels, four anchors per cell
    points, anchors, cells, levels = to_numpy((at.points, at.anchors, at.cells, at.levels))
    np.testing.assert_array_equal(points[4:8], [[16, 0]] * 4)  # the second cell
    np.testing.assert_array_equal(cells[-1], [1, 0])
    np.testing.assert_array_equal(levels, [0] * 32 + [1] * 8)
    # A quarter as high as wide: twice the width and half the height of the square of 32 pixels.
    np.testing.assert_allclose(anchors[0], [-32, -8, 32, 8], atol=1e-5)
    size = 32 * np.sqrt(2)
    np.testing.assert_allclose(anchors[3, 2:] - anchors[3, :2], [size, size], rtol=1e-6)


def test_boxes_end_before_the_edge_where_the_detector_has_it_so():
    boxes = np.float32([[[-5, -5, 200, 90]]])
    found = to_numpy(Distances(edge=1.0).clip(boxes, np.array([[80, 120]])))
    np.testing.assert_array_equal(found[0, 0], [0, 0, 119, 79])
