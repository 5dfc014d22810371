"""Images of any size in, images whose size the pyramid divides evenly out."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.boxes import ceil_divide


@keras.saving.register_keras_serializable(package="keras_gflv2")
class PadToMultiple(keras.layers.Layer):
    """Pads images on the right and at the bottom with one color to a multiple of a number.

    The official pipeline pads with zeros after normalization; in raw pixels that is the mean
    color.

    Args:
        multiple: height and width become the next multiple of it.
        value: the color, one number a channel, in the images' units.

    Input (B, H, W, 3), output (B, H', W', 3) with H' and W' the multiples.
    """

    def __init__(
        self,
        multiple: int = 32,
        value: Sequence[float] = (123.675, 116.28, 103.53),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.multiple = multiple
        self.value = tuple(float(v) for v in value)

    def call(self, images):
        height, width = ops.shape(images)[1:3]
        bottom = ceil_divide(height, self.multiple) * self.multiple - height
        right = ceil_divide(width, self.multiple) * self.multiple - width
        if isinstance(bottom, int) and isinstance(right, int) and bottom == right == 0:
            return images
        # Padding with 0 after a shift would pad with the color too, but round the pixels.
        batch, color = ops.shape(images)[0], ops.convert_to_tensor(self.value, dtype=images.dtype)
        beside = ops.broadcast_to(color, (batch, height, right, len(self.value)))
        below = ops.broadcast_to(color, (batch, bottom, width + right, len(self.value)))
        return ops.concatenate([ops.concatenate([images, beside], axis=2), below], axis=1)

    def compute_output_shape(self, input_shape):
        batch, *size, channels = input_shape
        size = [None if s is None else s + -s % self.multiple for s in size]
        return (batch, *size, channels)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple, "value": self.value}
