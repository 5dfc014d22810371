"""A convolution padded as the official code pads it, and grouped ones that train on a CPU."""

import keras
from keras import ops

from keras_gflv2.layers.own_canvas import only_own

# XLA's CPU gradient of a convolution with many groups takes seconds; with few it does not.
JAX_GROUPS = 8


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` on channels-last maps whose "same" padding is symmetric.

    Keras pads a strided convolution more at the bottom and right than at the top and left, which
    shifts every feature by half a pixel against weights that were trained with PyTorch's padding
    of (k - 1) / 2 on all sides.

    Args:
        filters, kernel_size, strides, ...: as in `keras.layers.Conv2D`; `padding` defaults to
            "same".
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "same",
        **kwargs,
    ):
        kwargs["data_format"] = "channels_last"
        super().__init__(filters, kernel_size, strides=strides, padding=padding, **kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        if keras.backend.backend() == "torch":
            from keras_gflv2.layers import torch_ops

            torch_ops.order_kernel(self.kernel)

    def call(self, inputs):
        if max(self.kernel_size) > 1:
            inputs = only_own(inputs)
        if keras.backend.backend() != "torch":
            return super().call(inputs)
        outputs = self._call_torch(inputs)
        return outputs if self.activation is None else self.activation(outputs)

    def _call_torch(self, inputs):
        from keras_gflv2.layers import torch_ops

        padding = same_padding(self) if self.padding == "same" else (0, 0)
        if self.padding == "same" and max(self.strides) == 1:
            # A kernel of even size sees one cell more at the bottom and right.
            odd = [d * (k - 1) % 2 for k, d in zip(self.kernel_size, self.dilation_rate)]
            if any(odd):
                inputs = ops.pad(inputs, [(0, 0), *((0, more) for more in odd), (0, 0)])
        return torch_ops.conv2d(
            inputs,
            self.kernel,
            self.bias,
            strides=self.strides,
            padding=padding,
            dilation_rate=self.dilation_rate,
            groups=self.groups,
        )

    def convolution_op(self, inputs, kernel):
        padding = self.padding
        if padding == "same" and max(self.strides) > 1:
            sides = [(side, side) for side in same_padding(self)]
            inputs = ops.pad(inputs, [(0, 0), *sides, (0, 0)])
            padding = "valid"
        # The gradient of a 1x1 kernel takes XLA two to seven times as long as that of a product.
        if self.kernel_size == (1, 1) and self.groups == 1 and keras.backend.backend() == "jax":
            inputs = inputs[:, :: self.strides[0], :: self.strides[1]]
            return ops.matmul(inputs, kernel[0, 0])
        convolve = _grouped_convolution if self.groups > 1 else _convolution
        return convolve(self, inputs, kernel, padding)


def same_padding(layer):
    """Padding (vertical, horizontal) on each side that keeps the size of a map at stride 1."""
    return [d * (k - 1) // 2 for k, d in zip(layer.kernel_size, layer.dilation_rate)]


def _convolution(layer, inputs, kernel, padding):
    return ops.conv(
        inputs,
        kernel,
        strides=layer.strides,
        padding=padding,
        data_format="channels_last",
        dilation_rate=layer.dilation_rate,
    )


def _grouped_convolution(layer, inputs, kernel, padding):
    """Convolution in groups, whose native gradients take seconds on a CPU."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        parts = zip(
            ops.split(inputs, layer.groups, axis=-1), ops.split(kernel, layer.groups, axis=-1)
        )
        return ops.concatenate([_convolution(layer, x, k, padding) for x, k in parts], axis=-1)
    if backend == "jax" and layer.groups > JAX_GROUPS and layer.groups % JAX_GROUPS == 0:
        kernel = merge_groups(kernel, layer.groups, JAX_GROUPS)
    return _convolution(layer, inputs, kernel, padding)


def merge_groups(kernel, groups, fewer):
    """The kernel of the same convolution in fewer groups, with zeros between those merged.

    Args:
        kernel: (kh, kw, C / groups, D).
        groups: number of groups, a multiple of `fewer`.
        fewer: number of groups of the result.

    Returns:
        (kh, kw, C / fewer, D).
    """
    height, width, depth, filters = kernel.shape
    merged = groups // fewer
    kernel = ops.reshape(kernel, (height, width, 1, depth, fewer, merged, filters // groups))
    diagonal = ops.reshape(ops.eye(merged, dtype=kernel.dtype), (1, 1, merged, 1, 1, merged, 1))
    return ops.reshape(kernel * diagonal, (height, width, merged * depth, filters))


def grouped_matmul(rows, kernel, groups):
    """Products of rows (N, K, C) and a kernel (K, C / groups, D), channels in groups; (N, D)."""
    taps, channels = rows.shape[1:]
    depth, filters = kernel.shape[1:]
    if groups == 1:
        return ops.matmul(
            ops.reshape(rows, (-1, taps * channels)), ops.reshape(kernel, (-1, filters))
        )
    rows = ops.transpose(ops.reshape(rows, (-1, taps, groups, depth)), (2, 0, 1, 3))
    rows = ops.reshape(rows, (groups, -1, taps * depth))
    kernel = ops.transpose(ops.reshape(kernel, (taps, depth, groups, -1)), (2, 0, 1, 3))
    kernel = ops.reshape(kernel, (groups, taps * depth, -1))
    product = ops.transpose(ops.matmul(rows, kernel), (1, 0, 2))  # (N, groups, D / groups)
    return ops.reshape(product, (-1, filters))
