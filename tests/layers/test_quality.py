"""How the quality of boxes is told: the points that are read, the reading, and what it teaches."""

import keras
import numpy as np
import pytest
from common import (
    assert_same_detections,
    random_batch,
    tiny_backbone,
    to_numpy,
)

from keras_gflv2 import layers
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers.quality.quality import LevelFeatures
from keras_gflv2.layers.quality.sampled import sample
from keras_gflv2.models.dense_detector import DenseDetector
from keras_gflv2.representations import AnchorDeltas, Distances, GeneralDistribution

TWO_ANCHORS = AnchorGrid(octaves=2)
SAMPLERS = {
    "point": layers.PointSampler,
    "region": lambda: layers.RegionSampler(3),
    "border": layers.BorderSampler,
    "border_middle": layers.BorderMiddleSampler,
    "border_extreme": lambda: layers.BorderExtremeSampler(5),
    "star": layers.StarSampler,
    "deformable": layers.DeformableSampler,
}
QUALITIES = {
    name: lambda make=make: layers.SampledQuality(make(), channels=8, hidden=16)
    for name, make in SAMPLERS.items()
} | {"composed": lambda: layers.ComposedQuality(16)}

each_quality = pytest.mark.parametrize("quality", QUALITIES)


def small_detector(quality, seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    arguments = {
        "fpn_channels": 16,
        "head_channels": 16,
        "head_depth": 1,
        "head_norm_groups": 4,
        **kwargs,
    }
    return DenseDetector(tiny_backbone(), 3, quality=quality, **arguments)


def level_of(distances, rows, columns, box_map=None, grid=None):
    """A level of 16 pixels per cell, whose boxes reach so far (B, A, 4) from their locations."""
    distances = np.asarray(distances, "float32")
    if box_map is None:
        box_map = np.zeros((len(distances), rows, columns, 2), "float32")
    return LevelFeatures(
        classification=keras.ops.convert_to_tensor(box_map),
        box=keras.ops.convert_to_tensor(box_map),
        raw=keras.ops.convert_to_tensor(distances),
        representation=Distances(),
        grid=grid or AnchorGrid(),
        index=1,
    )


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


# === Composed form ===


def composed_level(representation, per_cell, seed=0):
    rng = np.random.default_rng(seed)
    grid = TWO_ANCHORS if per_cell == 2 else AnchorGrid()
    logits = rng.normal(size=(2, 12 * per_cell, *representation.shape)) * 2
    level = level_of(logits, 3, 4, rng.normal(size=(2, 3, 4, 5)).astype("float32"), grid)
    level.representation = representation
    return level, logits


@pytest.mark.parametrize("per_cell", [1, 2])
def test_statistics_are_appended_to_the_classification_map(per_cell):
    level, logits = composed_level(GeneralDistribution(8), per_cell)
    quality = layers.ComposedQuality(6, topk=3)
    quality.build_from(5, (4, 9), per_cell)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    top = np.sort(probabilities, -1)[..., ::-1][..., :3]
    statistics = np.concatenate([top, top.mean(-1, keepdims=True)], -1).reshape(2, -1, 16)
    kernel, bias = (to_numpy(w) for w in quality.hidden.weights)
    added = np.maximum(statistics @ kernel + bias, 0).reshape(2, 3, 4, per_cell * 6)
    found = to_numpy(quality.extend(level))
    assert found.shape[-1] == 5 + quality.extra_channels(per_cell)
    np.testing.assert_array_equal(found[..., :5], to_numpy(level.classification))
    np.testing.assert_allclose(found[..., 5:], added, atol=1e-6)


@pytest.mark.parametrize("statistics", [("topk", "mean"), ("var",), ("mean", "topk", "var")])
def test_statistics_are_those_of_the_decomposed_form(statistics):
    level, logits = composed_level(GeneralDistribution(8), 1)
    composed = layers.ComposedQuality(6, 3, statistics)
    decomposed = layers.DistributionGuidedQualityPredictor(3, 6, statistics)
    for quality in (composed, decomposed):
        quality.build_from(5, (4, 9), 1)
    decomposed.hidden.set_weights(composed.hidden.get_weights())
    added = composed.extend(level)[..., 5:]
    quality = decomposed.quality(keras.ops.reshape(added, (2, 12, 6)))
    np.testing.assert_allclose(
        to_numpy(quality), to_numpy(decomposed(logits.astype("float32"))), atol=1e-6
    )


def test_the_classification_convolution_sees_the_added_channels():
    plain, composed = (
        small_detector(quality, grid=TWO_ANCHORS) for quality in (None, layers.ComposedQuality(7))
    )
    for model, channels in ((plain, 16), (composed, 16 + 2 * 7)):
        assert tuple(model.head.classification_conv.kernel.shape) == (3, 3, channels, 2 * 3)
    outputs = to_numpy(composed(random_batch()["images"]))
    np.testing.assert_allclose(
        outputs["scores"], 1 / (1 + np.exp(-outputs["class_logits"])), atol=1e-6
    )
    assert composed.criterion.terms[0].loss.from_logits


@pytest.mark.parametrize("representation", [Distances(), GeneralDistribution(2)])
def test_composed_quality_refuses_what_is_no_distribution_or_too_short(representation):
    with pytest.raises(ValueError, match=r"GeneralDistribution|`topk`"):
        small_detector(layers.ComposedQuality(), representation=representation)


# === In a detector ===


@each_quality
def test_scores_teach_the_quality_and_what_it_reads(quality):
    """One step on the scores alone: which weights moved tells where the gradient went."""
    model = small_detector(QUALITIES[quality]())
    head = model.head
    if quality == "deformable":  # with a constant kernel no offset has a gradient
        head.quality_predictor.reduction.kernel.assign(
            np.random.default_rng(0).normal(size=(1, 1, 16, 8))
        )
    images = random_batch()["images"]
    plain = keras.Model(model.input, {"scores": model.output["scores"]})
    plain.compile(
        keras.optimizers.Adam(1e-3),
        loss={"scores": lambda y_true, y_pred: keras.ops.mean(y_pred)},
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    before = {w.path: to_numpy(w) for w in head.trainable_weights}
    shape = plain.output["scores"].shape
    y = np.zeros((2, model.grid(96, 128).count, shape[-1]), "float32")
    logs = plain.train_on_batch(images, {"scores": y}, return_dict=True)
    assert np.isfinite(logs["loss"])
    moved = {w.path for w in head.trainable_weights if np.any(before[w.path] != to_numpy(w))}
    for weight in head.quality_predictor.trainable_weights:
        assert weight.path in moved
    assert head.box_convs[0].kernel.path in moved
    # The composed form teaches the distributions; points are not to run from the boxes.
    assert (head.regression_conv.kernel.path in moved) == (quality == "composed")


@pytest.mark.parametrize("quality", ["region", "border_extreme", "deformable", "composed"])
def test_a_detector_trains_and_predicts(quality):
    model = small_detector(QUALITIES[quality]())
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=keras.backend.backend() == "tensorflow")
    batch = random_batch(size=(72, 104))  # odd maps: 9 x 13 cells, 5 x 7, ...
    history = model.fit(
        batch["images"], batch["bounding_boxes"], batch_size=2, epochs=3, verbose=0
    ).history
    assert np.all(np.isfinite(history["loss"]))
    assert history["loss"][-1] < history["loss"][0]
    found = model.predict(batch["images"], verbose=0)
    assert np.all(np.isfinite(found["boxes"])) and np.all(found["confidence"] <= 1)


@pytest.mark.parametrize(
    "quality, dtype",
    [(name, "float32") for name in QUALITIES]
    + [(name, "mixed_bfloat16") for name in ("star", "deformable", "composed")],
)
def test_a_saved_detector_keeps_it(quality, dtype, tmp_path):
    model = small_detector(QUALITIES[quality](), dtype=dtype)
    rng = np.random.default_rng(0)
    for weight in model.quality.weights:
        weight.assign(rng.normal(size=weight.shape) / 4)
    images = random_batch()["images"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.quality.get_config() == model.quality.get_config()
    found, expected = (to_numpy(m(images)) for m in (loaded, model))
    assert set(found) == set(expected)
    for name in expected:
        assert found[name].dtype == expected[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


@each_quality
def test_a_serialized_quality_is_the_same(quality):
    quality = QUALITIES[quality]()
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(quality))
    assert type(copy) is type(quality) and copy.get_config() == quality.get_config()
    for layer in (quality, copy):
        layer.build_from(16, (4, 17), 1)
    copy.set_weights(quality.get_weights())
    assert [w.shape for w in copy.weights] == [w.shape for w in quality.weights]


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


def test_qualities_of_several_anchors_per_cell():
    quality = layers.SampledQuality(layers.DeformableSampler(anchors_per_cell=2), channels=8)
    model = small_detector(quality, grid=TWO_ANCHORS, representation=AnchorDeltas())
    outputs = to_numpy(model(random_batch()["images"]))
    assert outputs["scores"].shape == (2, model.grid(96, 128).count, 3)
    with pytest.raises(ValueError, match="anchors_per_cell"):
        small_detector(layers.SampledQuality(layers.DeformableSampler()), grid=TWO_ANCHORS)


@pytest.mark.parametrize("make", [layers.RegionSampler, layers.BorderSampler])
def test_samplers_refuse_no_point(make):
    with pytest.raises(ValueError, match="at least 1"):
        make(0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports are of TensorFlow")
@pytest.mark.parametrize("quality", ["composed", "deformable"])
def test_an_exported_detector_finds_the_same(quality, tmp_path):
    import tensorflow as tf

    model = small_detector(QUALITIES[quality]())
    rng = np.random.default_rng(0)
    for weight in (*model.quality.weights, model.head.classification_conv.bias):
        weight.assign(rng.normal(size=weight.shape) / 2)

    def detect(images):
        return model.decode_predictions(model(images, training=False), images)

    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    signature = tf.TensorSpec((None, None, None, 3), tf.float32, "images")
    module.detect = tf.function(detect, input_signature=[signature])
    tf.saved_model.save(module, str(tmp_path))
    served = tf.saved_model.load(str(tmp_path))
    for size in ((96, 128), (72, 104)):
        images = random_batch(size=size)["images"]
        found, expected = to_numpy(served.detect(images)), to_numpy(detect(images))
        assert found["num_detections"].min() > 0
        lowest = expected["confidence"].min(1).max()
        assert_same_detections(found, expected, threshold=lowest)
