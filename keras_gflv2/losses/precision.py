"""Losses of half-precision predictions are computed in float32."""

import keras
from keras import ops


def at_least_float32(x):
    """`x` as a tensor, in float32 if it has fewer digits.

    Areas of boxes in pixels and logarithms of small probabilities do not fit into float16.
    """
    x = ops.convert_to_tensor(x)
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
