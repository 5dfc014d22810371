"""The pooling in the stem of a ResNet: 3x3, stride 2, padded on all sides."""

import keras
from keras import ops

from keras_gflv2.layers.own_canvas import only_own


@keras.saving.register_keras_serializable(package="keras_gflv2")
class StemPooling(keras.layers.Layer):
    """Largest value of each 3x3 window, two cells apart; padding does not count.

    Input (B, H, W, C), not negative, as after a ReLU. Output (B, ceil(H / 2), ceil(W / 2), C).
    """

    def call(self, inputs):
        inputs = only_own(inputs)
        if keras.backend.backend() == "torch":
            from keras_gflv2.layers import torch_ops

            return torch_ops.max_pool(inputs, size=3, stride=2, padding=1)
        # After a ReLU, padding with 0 is padding with minus infinity.
        inputs = ops.pad(inputs, [(0, 0), (1, 1), (1, 1), (0, 0)])
        return ops.max_pool(inputs, 3, strides=2, data_format="channels_last")

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        sides = [None if side is None else (side + 1) // 2 for side in sides]
        return (batch, *sides, channels)

    def get_config(self):
        return super().get_config()  # Keras writes none of its own where `dtype` is a policy.
