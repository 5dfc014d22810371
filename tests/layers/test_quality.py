"""Quality in a detector: the composed form, what each form teaches, and that files keep it."""

import keras
import numpy as np
import pytest
from common import assert_same_detections, random_batch, to_numpy
from layers.qualities import QUALITIES, TWO_ANCHORS, level_of, small_detector
from losses.gradients import gradient

from keras_gflv2 import layers
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers.quality.statistics import largest
from keras_gflv2.representations import AnchorDeltas, Distances, GeneralDistribution

each_quality = pytest.mark.parametrize("quality", QUALITIES)


# === Statistics ===


def test_the_largest_probabilities_and_their_gradients():
    """Equal ones count as often as they are there."""
    rows = np.float32([[0.1, 0.3, 0.2, 0.3, 0.1], [0.2] * 5, [0.0, 0.0, 1.0, 0.0, 0.0]])
    found = to_numpy(largest(keras.ops.convert_to_tensor(rows), 3))
    np.testing.assert_array_equal(found, np.float32([[0.3, 0.3, 0.2], [0.2] * 3, [1, 0, 0]]))
    rng = np.random.default_rng(0)
    rows, weights = rng.random((4, 7, 17)).astype("float32"), rng.random((4, 7, 4), "float32")
    slopes = gradient(lambda x: keras.ops.sum(keras.ops.multiply(largest(x, 4), weights)), rows)
    expected = np.zeros_like(rows)
    np.put_along_axis(expected, np.argsort(-rows)[..., :4], weights, axis=-1)
    np.testing.assert_array_equal(slopes, expected)


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


# === All forms ===


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


def test_qualities_of_several_anchors_per_cell():
    quality = layers.SampledQuality(layers.DeformableSampler(anchors_per_cell=2), channels=8)
    model = small_detector(quality, grid=TWO_ANCHORS, representation=AnchorDeltas())
    outputs = to_numpy(model(random_batch()["images"]))
    assert outputs["scores"].shape == (2, model.grid(96, 128).count, 3)
    with pytest.raises(ValueError, match="anchors_per_cell"):
        small_detector(layers.SampledQuality(layers.DeformableSampler()), grid=TWO_ANCHORS)


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
