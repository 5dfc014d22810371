"""Layers that leave Keras's operations for faster ones on a backend equal Keras's layers."""

import weakref

import keras
import numpy as np
import pytest
from common import to_numpy

from keras_gflv2.backbones import ResNet
from keras_gflv2.backbones.frugal import FrugalModel
from keras_gflv2.layers import Conv2D
from keras_gflv2.layers.batch_normalization import BatchNormalization, RunningBatchNormalization
from keras_gflv2.layers.group_normalization import GroupNormalization
from keras_gflv2.layers.stem_pooling import StemPooling

on_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch alone does it")


def maps(*shape, mean=0.5):
    return np.random.default_rng(0).normal(mean, 2.0, shape).astype("float32")


def trained(layer, inputs):
    """Outputs before and weights after a step of SGD, of a layer with weights unlike the first."""
    model = keras.Sequential([keras.Input((None, None, inputs.shape[-1])), layer])
    random = np.random.default_rng(1)
    for variable in layer.variables:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    outputs = to_numpy(model(inputs, training=True))
    for variable in layer.variables:
        if "moving" in variable.name:  # which the call has changed
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    model.train_on_batch(inputs, np.zeros_like(outputs))
    return [outputs.astype("float32"), *(to_numpy(v.value) for v in layer.variables)]


def assert_equal(ours, kerass, inputs, **tolerance):
    for found, expected in zip(trained(ours, inputs), trained(kerass, inputs)):
        np.testing.assert_allclose(found, expected, **{"rtol": 1e-4, "atol": 1e-5, **tolerance})


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 3, "activation": "relu"},
        {"kernel_size": 3, "dilation_rate": 2, "use_bias": False},
        {"kernel_size": (2, 4)},
        {"kernel_size": 3, "groups": 4},
        {"kernel_size": 3, "strides": 2, "padding": "valid"},
    ],
    ids=str,
)
def test_convolution(options):
    options = {"padding": "same", **options}
    assert_equal(Conv2D(8, **options), keras.layers.Conv2D(8, **options), maps(2, 7, 9, 4))


@pytest.mark.parametrize("height", [1, 4])
def test_a_kernel_learns_nothing_where_it_only_meets_padding(height):
    """Left and right of a map one cell wide, as P6 is of small images."""
    layer = Conv2D(16, 3, strides=2, use_bias=False, dtype="mixed_bfloat16")
    inputs = maps(2, height, 1, 16)
    layer.build(inputs.shape)
    for _ in range(10):  # PyTorch left these gradients to what was in memory before
        np.full((100, 3, 3, 16, 16), 1e20, "float32")
        before = to_numpy(layer.kernel.value).copy()
        model = keras.Sequential([layer])
        model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
        model.train_on_batch(inputs, np.zeros((2, (height + 1) // 2, 1, 16), "float32"))
        after = to_numpy(layer.kernel.value)
        np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
        assert np.abs(after - before)[:, 1].max() > 0


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}], ids=str)
def test_batch_normalization(policy, options):
    options = {"momentum": 0.9, "epsilon": 1e-5, "dtype": policy, **options}
    tolerance = {} if policy == "float32" else {"rtol": 2e-2, "atol": 2e-2}
    inputs = maps(2, 5, 6, 8)
    assert_equal(
        BatchNormalization(**options),
        keras.layers.BatchNormalization(**options),
        inputs,
        **tolerance,
    )
    frozen = keras.layers.BatchNormalization(**options, trainable=False)
    assert_equal(BatchNormalization(**options, trainable=False), frozen, inputs, **tolerance)


def test_batch_normalization_of_a_single_cell():
    assert_equal(BatchNormalization(), keras.layers.BatchNormalization(), maps(1, 1, 1, 8))


def test_running_statistics_train_scale_and_offset_alone():
    inputs = maps(2, 5, 6, 8)
    found = trained(RunningBatchNormalization(), inputs)
    frozen = trained(keras.layers.BatchNormalization(trainable=False), inputs)
    outputs, gamma, beta, *statistics = (np.abs(a - b).max() for a, b in zip(found, frozen))
    assert outputs < 1e-5 and statistics == [0, 0]
    assert gamma > 1e-3 and beta > 1e-3


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_group_normalization(policy):
    options = {"groups": 4, "epsilon": 1e-5, "dtype": policy}
    tolerance = {"atol": 1e-4} if policy == "float32" else {"rtol": 2e-2, "atol": 2e-2}
    ours, kerass = GroupNormalization(**options), keras.layers.GroupNormalization(**options)
    assert_equal(ours, kerass, maps(2, 5, 6, 8), **tolerance)


@pytest.mark.parametrize("trains", ["nothing", "the input"])
def test_group_normalization_after_a_frozen_layer_trains(trains):
    """PyTorch's gradients of scale and offset crash where the input wants none."""
    before = Conv2D(8, 1, trainable=trains == "the input")
    norm = GroupNormalization(4)
    model = keras.Sequential([keras.Input((None, None, 3)), before, norm])
    model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
    norm.gamma.assign(2 * np.ones(8))
    model.train_on_batch(maps(1, 4, 4, 3), np.zeros((1, 4, 4, 8)))
    assert to_numpy(norm.gamma.value).max() < 2


def test_group_normalization_of_a_large_mean_and_a_small_deviation():
    """A variance from E[x^2] - E[x]^2 in float32 would be wrong in the second digit."""
    inputs = maps(1, 6, 7, 8, mean=500.0)
    groups = inputs.astype("float64").reshape(1, 42, 2, 4)
    mean, deviation = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.std))
    expected = ((groups - mean) / deviation).reshape(inputs.shape)
    found = to_numpy(GroupNormalization(2, epsilon=1e-7)(inputs))
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (1, 1)])
def test_stem_pooling_takes_windows_around_every_other_cell(size):
    inputs = np.maximum(maps(1, *size, 2), 0)
    found = to_numpy(StemPooling()(inputs))
    assert found.shape == StemPooling().compute_output_shape(inputs.shape)
    for y, x in np.ndindex(found.shape[1:3]):
        window = inputs[0, max(2 * y - 1, 0) : 2 * y + 2, max(2 * x - 1, 0) : 2 * x + 2]
        np.testing.assert_array_equal(found[0, y, x], window.max((0, 1)))


def test_a_backbone_equals_the_functional_model_of_its_graph():
    backbone = ResNet(18, base_channels=8, batch_norm_statistics="batch", frozen_stages=1)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 96, 3)).astype("float32")
    before_relu = backbone.get_layer("layer3_1_bn1").output  # which the backbone may overwrite
    plain = keras.Model(backbone.inputs, {**backbone.output, "inside": before_relu})
    for training in (False, True):
        expected = to_numpy(plain(images, training=training))
        found = to_numpy(backbone(images, training=training))
        for level in ("P3", "P4", "P5"):
            np.testing.assert_allclose(found[level], expected[level], rtol=1e-4, atol=1e-5)
        assert expected["inside"].min() < 0


@on_torch
def test_a_map_is_forgotten_after_its_last_reader():
    alive = []

    class Probe(keras.layers.Layer):
        def call(self, inputs):
            self.outputs_alive = sum(reference() is not None for reference in alive)
            outputs = inputs + 1
            alive.append(weakref.ref(outputs))
            return outputs

    probes = [Probe() for _ in range(5)]
    x = inputs = keras.Input((None, None, 1))
    for probe in probes:
        x = probe(x)
    model = FrugalModel(inputs, x)
    alive.clear()
    model(np.zeros((1, 2, 2, 1), "float32"))
    assert [probe.outputs_alive for probe in probes] == [0, 1, 1, 1, 1]


@on_torch
def test_kernels_keep_the_order_that_pytorch_reads():
    """Through a step of training; in another, each call and gradient would be transposed."""
    layer = Conv2D(8, 3)
    assert_equal(layer, keras.layers.Conv2D(8, 3, padding="same"), maps(2, 6, 6, 4))
    kernel = layer.kernel.value
    for tensor in (kernel, kernel.grad):
        assert tuple(tensor.shape) == (3, 3, 4, 8)
        assert tensor.permute(3, 0, 1, 2).is_contiguous()
