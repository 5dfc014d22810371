import keras
import numpy as np
import pytest
from common import golden, nhwc, to_numpy
from head_golden import CASES, case_arrays, features, load_head

from keras_gflv2.layers import (
    Conv2D,
    DistributionGuidedQualityPredictor,
    FeaturePyramid,
    Integral,
    PadToMultiple,
)


def test_integral_equals_the_official_one():
    data = golden("integral.npz")
    logits = data["x"].reshape(-1, 4, 17)
    np.testing.assert_allclose(to_numpy(Integral()(logits)), data["y"], rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_head_equals_the_official_one_at_every_level(case):
    data = case_arrays(case)
    outputs = to_numpy(load_head(data)(features(data)))
    scores = [nhwc(data[f"cls_score_{i}"]).reshape(2, -1, 6) for i in range(5)]
    logits = [nhwc(data[f"bbox_pred_{i}"]).reshape(2, -1, 4, 17) for i in range(5)]
    np.testing.assert_allclose(outputs["scores"], np.concatenate(scores, 1), atol=2e-5)
    np.testing.assert_allclose(outputs["box_distributions"], np.concatenate(logits, 1), atol=2e-4)


def test_feature_pyramid_equals_the_official_one_on_odd_sizes():
    data = golden("fpn_odd.npz")
    pyramid = FeaturePyramid(8)
    inputs = {f"P{i + 2}": nhwc(data[f"in_{i}"]) for i in (1, 2, 3)}
    pyramid.build({k: v.shape for k, v in inputs.items()})
    for kind, convs in (
        ("lateral", pyramid.lateral_convs),
        ("fpn", [*pyramid.output_convs, *pyramid.extra_convs]),
    ):
        for i, conv in enumerate(convs):
            conv.kernel.assign(data[f"w__{kind}_convs.{i}.conv.weight"].transpose(2, 3, 1, 0))
            conv.bias.assign(data[f"w__{kind}_convs.{i}.conv.bias"])
    outputs = to_numpy(pyramid(inputs))
    assert list(outputs) == ["P3", "P4", "P5", "P6", "P7"]
    for i in range(5):
        np.testing.assert_allclose(outputs[f"P{i + 3}"], nhwc(data[f"out_{i}"]), atol=1e-5)


@pytest.mark.parametrize(
    "statistics, dim",
    [(("topk",), 16), (("topk", "mean"), 20), (("mean",), 4), (("topk", "mean", "var"), 24)],
)
def test_quality_predictor_has_the_dimensions_of_table_1(statistics, dim):
    layer = DistributionGuidedQualityPredictor(statistics=statistics)
    quality = to_numpy(layer(np.random.default_rng(0).normal(size=(2, 5, 4, 17))))
    assert quality.shape == (2, 5, 1)
    assert tuple(layer.hidden.kernel.shape) == (dim, 64)
    assert np.all((quality > 0) & (quality < 1))


def test_quality_depends_on_the_shape_of_a_distribution_and_not_on_where_its_peak_is():
    layer = DistributionGuidedQualityPredictor()
    sharp = np.zeros((1, 4, 17), "float32")
    sharp[..., 3] = 5.0
    moved, flat = np.roll(sharp, 7, axis=-1), np.zeros_like(sharp)
    same, other, different = (float(to_numpy(layer(x))[0, 0]) for x in (sharp, moved, flat))
    assert same == pytest.approx(other, abs=1e-7)
    assert same != different


@pytest.mark.parametrize(
    "arguments", [{"statistics": ()}, {"statistics": ("median",)}, {"topk": 0}]
)
def test_quality_predictor_refuses(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DistributionGuidedQualityPredictor(**arguments)


def test_strided_convolution_pads_the_same_on_all_sides():
    conv = Conv2D(1, 3, strides=2, use_bias=False, kernel_initializer="ones")
    image = np.zeros((1, 4, 4, 1), "float32")
    image[0, 0, 0] = 1.0  # seen by the first window alone: it reaches from -1 to 1
    image[0, 3, 3] = 10.0  # seen by the last window alone: from 1 to 3
    np.testing.assert_array_equal(to_numpy(conv(image))[0, :, :, 0], [[1, 0], [0, 10]])


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 1)])
def test_padding_adds_the_colour_at_the_right_and_bottom(size):
    image = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype("float32")
    padded = to_numpy(PadToMultiple(32, value=(1.0, 2.0, 3.0))(image))
    assert padded.shape[1] % 32 == padded.shape[2] % 32 == 0
    assert 0 <= padded.shape[1] - size[0] < 32 and 0 <= padded.shape[2] - size[1] < 32
    np.testing.assert_array_equal(padded[:, : size[0], : size[1]], image)
    outside = np.ones(padded.shape[1:3], bool)
    outside[: size[0], : size[1]] = False
    np.testing.assert_array_equal(
        padded[0][outside], np.tile(np.float32([1, 2, 3]), (outside.sum(), 1))
    )


@pytest.mark.parametrize(
    "layer",
    [
        FeaturePyramid(8, extra_levels=1),
        DistributionGuidedQualityPredictor(topk=2, channels=8, statistics=("topk", "var")),
        PadToMultiple(16, value=(0, 1, 2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_survive_serialisation(layer):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert copy.get_config() == layer.get_config()
