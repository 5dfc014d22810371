"""Grouped and deformable convolutions: against golden arrays, and against plain ones."""

import keras
import numpy as np
import pytest
from common import golden, nhwc, to_numpy

from keras_gflv2.layers import Conv2D, DeformableConv2D
from keras_gflv2.layers.conv2d import merge_groups
from keras_gflv2.layers.deformable_conv import deformable_convolution


def random_like(outputs):
    return np.random.default_rng(1).normal(size=outputs.shape).astype("float32")


def halved_squares(differences, axis=None):
    return keras.ops.sum(keras.ops.square(differences), axis=axis) / 2


def loss_gradients(layer, inputs):
    """Gradients of `halved_squares` by all weights, through one step of SGD.

    A loss that is linear in the outputs would not do: no gradient of the kernel would depend on the
    kernel, and TensorFlow 2.21 may then update the kernel before others have read it.
    """
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layer])
    targets = random_like(to_numpy(model(inputs)))
    before = [to_numpy(v).copy() for v in model.trainable_variables]
    model.compile(
        keras.optimizers.SGD(1.0),
        loss=lambda y_true, y_pred: halved_squares(y_pred - y_true, axis=(1, 2, 3)),
        jit_compile=False,
    )
    model.train_on_batch(inputs, targets)
    return [old - to_numpy(new) for old, new in zip(before, model.trainable_variables)]


@pytest.mark.parametrize("strides", [1, 2, (2, 1)])
def test_a_convolution_of_one_cell_is_a_matrix_product(strides):
    inputs = np.random.default_rng(0).normal(size=(2, 5, 8, 6)).astype("float32")
    layer = Conv2D(4, 1, strides=strides)
    outputs = to_numpy(layer(inputs))
    down, right = layer.strides
    expected = inputs[:, ::down, ::right] @ to_numpy(layer.kernel)[0, 0]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
def test_deformable_convolution_equals_the_golden_one(version):
    data = golden("deform_conv.npz")
    arguments = (
        nhwc(data["x"]).astype("float32"),
        data["weight"].transpose(2, 3, 1, 0).astype("float32"),
        nhwc(data["offset"]).astype("float32"),
        nhwc(data["mask"]).astype("float32") if version == 2 else None,
    )
    found = deformable_convolution(
        *(None if a is None else keras.ops.convert_to_tensor(a) for a in arguments),
        strides=(int(data["stride"]),) * 2,
        padding=(int(data["padding"]),) * 2,
        groups=int(data["groups"]),
        deformable_groups=int(data["deform_groups"]),
    )
    np.testing.assert_allclose(to_numpy(found), nhwc(data[f"out_v{version}"]), atol=1e-5)


@pytest.mark.parametrize("strides, groups, deformable_groups", [(1, 1, 1), (2, 4, 2)])
def test_a_deformable_convolution_starts_as_a_plain_one(strides, groups, deformable_groups):
    inputs = np.random.default_rng(0).normal(size=(2, 9, 11, 8)).astype("float32")
    arguments = {"strides": strides, "groups": groups, "use_bias": False}
    plain = Conv2D(16, 3, **arguments)
    expected = to_numpy(plain(inputs))
    for modulated, factor in ((False, 1.0), (True, 0.5)):  # sigmoid(0) = 0.5
        layer = DeformableConv2D(
            16, 3, modulated=modulated, deformable_groups=deformable_groups, **arguments
        )
        layer.build(inputs.shape)
        layer.kernel.assign(plain.kernel)
        np.testing.assert_allclose(to_numpy(layer(inputs)), factor * expected, atol=1e-5)
        copy = DeformableConv2D.from_config(layer.get_config())
        assert copy.modulated == modulated and copy.deformable_groups == deformable_groups


def test_gradients_reach_kernel_and_offsets():
    """Against finite differences of the loss, for offsets that are no whole numbers."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(1, 5, 6, 4)).astype("float32")
    keras.utils.set_random_seed(0)
    layer = DeformableConv2D(3, 3, use_bias=False)
    layer.build(inputs.shape)
    bias = random.uniform(0.2, 0.8, layer.conv_offset.bias.shape).astype("float32")
    layer.conv_offset.bias.assign(bias)
    kernel = to_numpy(layer.kernel).copy()
    gradients = dict(
        zip([v.path for v in layer.trainable_variables], loss_gradients(layer, inputs))
    )
    layer.kernel.assign(kernel)
    layer.conv_offset.kernel.assign(np.zeros(layer.conv_offset.kernel.shape, "float32"))

    def value(step, index):
        moved = bias.copy()
        moved[index] += step
        layer.conv_offset.bias.assign(moved)
        outputs = to_numpy(layer(inputs))
        return float(halved_squares(outputs - random_like(outputs)))

    found = next(g for path, g in gradients.items() if path.endswith("conv_offset/bias"))
    for index in (0, 7, 17):
        expected = (value(1e-2, index) - value(-1e-2, index)) / 2e-2
        assert found[index] == pytest.approx(expected, rel=1e-2, abs=1e-2)
    assert all(np.abs(g).max() > 0 for g in gradients.values())


@pytest.mark.parametrize("groups", [4, 16, 32])
def test_grouped_convolutions_and_their_gradients(groups):
    """As many plain convolutions, each on its part of the channels."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(2, 7, 8, 64)).astype("float32")
    layer = Conv2D(64, 3, strides=2, groups=groups, use_bias=False)
    layer.build(inputs.shape)
    kernel = to_numpy(layer.kernel).copy()
    found = to_numpy(layer(inputs))
    (gradient,) = loss_gradients(layer, inputs)
    width = 64 // groups
    for group in (0, groups - 1):
        part = slice(group * width, (group + 1) * width)
        plain = Conv2D(width, 3, strides=2, use_bias=False)
        plain.build((None, None, None, width))
        plain.kernel.assign(kernel[..., part])
        np.testing.assert_allclose(
            to_numpy(plain(inputs[..., part])), found[..., part], rtol=1e-4, atol=1e-4
        )
    # Outputs are linear in the kernel: its gradient times itself is what they are times theirs.
    expected = np.sum((found - random_like(found)) * found) / len(inputs)
    assert np.sum(gradient * kernel) == pytest.approx(expected, rel=1e-3)


def test_merged_groups_are_zero_between_the_old_ones():
    kernel = np.arange(1, 1 + 9 * 2 * 16, dtype="float32").reshape(3, 3, 2, 16)  # 8 groups
    merged = to_numpy(merge_groups(keras.ops.convert_to_tensor(kernel), 8, 4))
    assert merged.shape == (3, 3, 4, 16)
    np.testing.assert_array_equal(merged[:, :, :2, :2], kernel[..., :2])
    np.testing.assert_array_equal(merged[:, :, 2:, 2:4], kernel[..., 2:4])
    assert np.count_nonzero(merged) == kernel.size


def test_it_refuses_channels_that_do_not_split():
    with pytest.raises(ValueError, match="deformable_groups"):
        DeformableConv2D(8, 3, deformable_groups=3)(np.zeros((1, 4, 4, 8), "float32"))
