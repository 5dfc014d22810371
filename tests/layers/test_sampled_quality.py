"""Quality of what is read at points of a box: the reading, the points, and what is told by them."""

import keras
import numpy as np
import pytest
from common import to_numpy
from layers.qualities import SAMPLERS, TWO_ANCHORS, level_of

from keras_gflv2 import layers
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers.quality.sampled import sample
from keras_gflv2.representations import AnchorDeltas, GeneralDistribution


def tent(size, position):
    """Weight of each of `size` cells at positions (N,): bilinear interpolation along one axis."""
    return np.maximum(0, 1 - np.abs(np.arange(size) - np.asarray(position, "float64")[:, None]))


def read(image, points):
    """What a map (H, W, C) has at points (N, 2), x and y; zero outside."""
    weights = np.einsum(
        "ny,nx->nyx", tent(image.shape[0], points[:, 1]), tent(image.shape[1], points[:, 0])
    )
    return np.einsum("nyx,yxc->nc", weights, image)


def random_level(seed=0, rows=5, columns=7, batch=2, per_cell=1, channels=3, longest=4.0):
    rng = np.random.default_rng(seed)
    distances = rng.uniform(0, longest, (batch, rows * columns * per_cell, 4))
    box_map = rng.normal(size=(batch, rows, columns, channels)).astype("float32")
    grid = TWO_ANCHORS if per_cell == 2 else AnchorGrid(offset=0.5)
    return level_of(distances, rows, columns, box_map, grid)


# === Reading ===


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("groups, count", [(1, 1), (1, 25), (4, 5), (9, 1)])
def test_reading_is_bilinear_and_zero_outside(groups, count, pooling):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 5, 7, 3)).astype("float32")
    points = rng.uniform(-2, 9, (2, 30, groups, count, 2)).astype("float32")
    special = [0, 6, 4, -1, -0.5, 6.5, 4.5, 7, 1e6, -1e6, 4e8]  # cells, borders, far outside
    points[0, :11, 0, 0, 0] = special
    points[0, 11:22, 0, 0, 1] = special
    points[1, :11, 0, 0] = np.stack([special, special[::-1]], -1)
    found = to_numpy(sample(image, keras.ops.convert_to_tensor(points), pooling))
    expected = [read(m, p.reshape(-1, 2)) for m, p in zip(image, points)]
    expected = np.stack(expected).reshape(2, 30, groups, count, 3)
    expected = expected.max(3) if pooling == "max" else expected.mean(3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_region_is_the_mean_over_the_centers_of_the_bins_of_roi_align():
    level = random_level()
    points = layers.RegionSampler(7).points(level)
    found = to_numpy(sample(level.box, points))[:, :, 0]
    boxes, image = to_numpy(level.boxes), to_numpy(level.box)
    for b in range(2):
        for a in range(boxes.shape[1]):
            (x1, y1, x2, y2), expected = boxes[b, a], 0
            for row in range(7):
                for column in range(7):
                    x = x1 + (column + 0.5) * (x2 - x1) / 7
                    y = y1 + (row + 0.5) * (y2 - y1) / 7
                    expected = expected + read(image[b], np.array([[x, y]]))[0] / 49
            np.testing.assert_allclose(found[b, a], expected, atol=1e-5)


# === Points ===


# The box of (l, t, r, b) = (1, 2, 3, 6) around column 2, row 1 is (1, -1, 5, 7).
BOX_POINTS = {
    "point": [[(2, 1)]],
    "region": [[(x, y) for y in (1 / 3, 3, 17 / 3) for x in (5 / 3, 3, 13 / 3)]],
    "border_middle": [[(1, 3)], [(3, -1)], [(5, 3)], [(3, 7)]],
    "border_extreme": [
        [(1, y) for y in (-0.2, 1.4, 3.0, 4.6, 6.2)],
        [(x, -1) for x in (1.4, 2.2, 3.0, 3.8, 4.6)],
        [(5, y) for y in (-0.2, 1.4, 3.0, 4.6, 6.2)],
        [(x, 7) for x in (1.4, 2.2, 3.0, 3.8, 4.6)],
    ],
    "star": [[(x, y)] for y in (-1, 1, 7) for x in (1, 2, 5)],
}


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("sampler", BOX_POINTS)
def test_points_of_a_box(sampler, offset):
    distances = np.tile(np.float32([1, 2, 3, 6]), (2, 12, 1))
    level = level_of(distances, 3, 4, grid=AnchorGrid(offset=offset))
    sampler, expected = SAMPLERS[sampler](), BOX_POINTS[sampler]
    points = to_numpy(sampler.points(level))
    assert points.shape == (2, 12, *np.shape(expected)) == (2, 12, *sampler.shape, 2)
    np.testing.assert_allclose(points[1, 1 * 4 + 2], expected, atol=1e-5)


def test_dense_and_extreme_points_of_a_border_are_the_same_but_for_the_pooling():
    level = random_level()
    dense, extreme = layers.BorderSampler(6), layers.BorderExtremeSampler(6)
    np.testing.assert_array_equal(to_numpy(dense.points(level)), to_numpy(extreme.points(level)))
    assert (dense.pooling, extreme.pooling) == ("mean", "max")


def test_anchors_of_a_cell_have_its_location_and_boxes_of_their_own():
    level = random_level(per_cell=2)
    points = to_numpy(layers.StarSampler().points(level))
    center = points[0, :, 4, 0]
    np.testing.assert_allclose(center[::2], center[1::2])
    np.testing.assert_allclose(center[2 * (3 * 7 + 4)], (4, 3))
    boxes = to_numpy(level.boxes)
    np.testing.assert_allclose(points[:, :, 0, 0], boxes[..., :2], atol=1e-5)
    np.testing.assert_allclose(points[:, :, 8, 0], boxes[..., 2:], atol=1e-5)
    assert not np.allclose(boxes[:, ::2], boxes[:, 1::2])


@pytest.mark.parametrize("representation", [AnchorDeltas(), GeneralDistribution(4)])
def test_any_representation_gives_boxes_in_cells(representation):
    level = level_of(np.zeros((1, 12, *representation.shape)), 3, 4)
    level.representation = representation
    points = to_numpy(layers.BorderMiddleSampler().points(level))[0, 1 * 4 + 2, :, 0]
    # No difference from an anchor of 8 strides; flat distributions over 0..4, whose mean is 2.
    half = 4 if isinstance(representation, AnchorDeltas) else 2
    np.testing.assert_allclose(
        points, [(2 - half, 1), (2, 1 - half), (2 + half, 1), (2, 1 + half)], atol=1e-5
    )


@pytest.mark.parametrize("base", [None, layers.BorderSampler(3)])
def test_deformable_points_start_out_as_the_regular_ones(base):
    level = random_level()
    sampler = layers.DeformableSampler(base)
    sampler.build_from(3, 1)
    regular = base or layers.StarSampler()
    np.testing.assert_array_equal(to_numpy(sampler.points(level)), to_numpy(regular.points(level)))
    assert sampler.pooling == regular.pooling and sampler.shape == regular.shape


def test_deformable_points_move_by_the_convolution():
    level = random_level(per_cell=2)
    sampler = layers.DeformableSampler(anchors_per_cell=2)
    sampler.build_from(3, 2)
    moves = np.arange(36, dtype="float32") / 10
    sampler.offset_conv.bias.assign(moves)
    moved = to_numpy(sampler.points(level)) - to_numpy(layers.StarSampler().points(level))
    # Anchor by anchor, point by point, x and y.
    moves = np.tile(moves.reshape(1, 2, 9, 1, 2), (2, 35, 1, 1, 1))
    np.testing.assert_allclose(moved, moves, atol=1e-5)


@pytest.mark.parametrize(
    "sampler",
    [
        layers.RegionSampler(5),
        layers.BorderSampler(3),
        layers.BorderExtremeSampler(4),
        layers.DeformableSampler(layers.RegionSampler(2), anchors_per_cell=3, trainable=False),
        layers.DeformableSampler(dtype="mixed_bfloat16"),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_samplers_survive_serialization(sampler):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(sampler))
    assert type(copy) is type(sampler) and copy.get_config() == sampler.get_config()
    assert copy.shape == sampler.shape and copy.pooling == sampler.pooling


@pytest.mark.parametrize("make", [layers.RegionSampler, layers.BorderSampler])
def test_samplers_refuse_no_point(make):
    with pytest.raises(ValueError, match="at least 1"):
        make(0)


# === What is read ===


def inner_level(columns=24, shift=0):
    """Boxes inside of a map whose channels are x and y; `shift` moves all by whole columns."""
    rows = columns
    y, x = np.mgrid[:rows, :columns].astype("float32")
    distances = np.tile(np.float32([1.5, 2.25, 3.75, 2.5]), (1, rows * columns, 1))
    return level_of(distances, rows, columns, np.stack([x - shift, y], -1)[None])


def test_of_a_ramp_samplers_read_coordinates():
    """At column 10, row 12, the box is (8.5, 9.75, 13.75, 14.5)."""
    level, location = inner_level(), 12 * 24 + 10
    expected = {
        "point": [(10, 12)],
        "region": [(11.125, 12.125)],
        "border": [(8.5, 12.125), (11.125, 9.75), (13.75, 12.125), (11.125, 14.5)],
        "border_middle": [(8.5, 12.125), (11.125, 9.75), (13.75, 12.125), (11.125, 14.5)],
        # The largest x and y of five points: the middle of the last fifth of the side.
        "border_extreme": [(8.5, 14.025), (13.225, 9.75), (13.75, 14.025), (13.225, 14.5)],
        "star": [(x, y) for y in (9.75, 12, 14.5) for x in (8.5, 10, 13.75)],
    }
    for name, values in expected.items():
        sampler = SAMPLERS[name]()
        features = to_numpy(sample(level.box, sampler.points(level), sampler.pooling))
        np.testing.assert_allclose(features[0, location], values, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_quality_moves_with_map_and_box(sampler):
    rng = np.random.default_rng(0)
    distances = rng.uniform(0, 4, (1, 9, 9, 4)).astype("float32")
    box_map = np.zeros((1, 9, 9, 6), "float32")
    box_map[:, 2:6, 2:6] = rng.normal(size=(1, 4, 4, 6))
    quality = layers.SampledQuality(SAMPLERS[sampler](), channels=4)
    quality.build_from(6, (4,), 1)
    if sampler == "deformable":
        kernel = quality.sampler.offset_conv.kernel
        kernel.assign(rng.normal(size=kernel.shape) / 4)

    def qualities(down, right):
        moved = (np.roll(x, (down, right), (1, 2)) for x in (distances, box_map))
        distance, features = moved
        level = level_of(distance.reshape(1, 81, 4), 9, 9, features)
        found = to_numpy(quality.read(level)).reshape(9, 9)
        return np.roll(found, (-down, -right), (0, 1))[1:7, 1:7]

    still = qualities(0, 0)
    np.testing.assert_allclose(qualities(2, 1), still, atol=1e-5)
    assert still.std() > 1e-6


def test_quality_is_that_of_two_layers_on_the_features():
    level = random_level()
    quality = layers.SampledQuality(layers.BorderMiddleSampler(), channels=4, hidden=5)
    quality.build_from(3, (4,), 1)
    rng = np.random.default_rng(0)
    for weight in quality.weights:
        weight.assign(rng.normal(size=weight.shape))
    weights = [to_numpy(w) for w in quality.weights]
    kernel, bias, hidden, hidden_bias, last, last_bias = (w.astype("float64") for w in weights)
    points = to_numpy(quality.sampler.points(level))
    # The reduction is a product; reading comes after it, with zeros outside of the map.
    reduced = to_numpy(level.box) @ kernel[0, 0] + bias
    features = np.stack([read(m, p.reshape(-1, 2)) for m, p in zip(reduced, points)])
    inside = np.maximum(features.reshape(2, 35, 16) @ hidden + hidden_bias, 0)
    expected = 1 / (1 + np.exp(-(inside @ last + last_bias)))
    found = to_numpy(quality.read(level))
    assert found.shape == (2, 35, 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
