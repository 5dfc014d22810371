"""RGB in, BGR out, or the other way around."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ReverseChannels(keras.layers.Layer):
    """Reverses the order of the channels, for networks that were trained on BGR images.

    Input and output (B, H, W, C).
    """

    def call(self, images):
        # A gather: every runtime that models are exported to has one.
        return ops.take(images, list(range(images.shape[-1]))[::-1], axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape
