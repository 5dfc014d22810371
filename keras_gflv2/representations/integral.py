"""Logits of a general distribution in, its expected value out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Integral(keras.layers.Layer):
    """Expected bin of a general distribution (GFLV2, Eq. 2).

    `sum_i P(y_i) y_i` with P the softmax of the logits and y_i = 0, 1, ..., n. Multiplied by the
    level's stride it is the distance in pixels from a location to a side of its box.

    Input (..., n + 1) logits, output (...) in bins, 0..n, float32 or wider.

    >>> keras_gflv2.layers.Integral()(np.zeros((1, 4, 17)))    # 8 everywhere
    """

    def __init__(self, dtype: DType = "float32", **kwargs):
        super().__init__(dtype=dtype, **kwargs)
        self.built = True  # No weights: fit need not run the model to find them.

    def call(self, logits):
        probabilities = ops.softmax(logits, axis=-1)
        bins = ops.arange(logits.shape[-1], dtype=probabilities.dtype)
        return ops.sum(probabilities * bins, axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape[:-1]
