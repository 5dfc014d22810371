"""A convolution padded as the official code pads it."""

import keras
from keras import ops


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

    def __init__(self, filters, kernel_size, strides=1, padding="same", **kwargs):
        kwargs["data_format"] = "channels_last"
        super().__init__(filters, kernel_size, strides=strides, padding=padding, **kwargs)

    def convolution_op(self, inputs, kernel):
        padding = self.padding
        if padding == "same" and max(self.strides) > 1:
            sides = [(d * (k - 1) // 2,) * 2 for k, d in zip(self.kernel_size, self.dilation_rate)]
            inputs = ops.pad(inputs, [(0, 0), *sides, (0, 0)])
            padding = "valid"
        return ops.conv(
            inputs,
            kernel,
            strides=self.strides,
            padding=padding,
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )
