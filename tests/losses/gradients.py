"""Gradients on any backend, and their independent counterpart."""

import keras
import numpy as np


def gradient(function, x):
    """Gradient of a scalar function by one array, on any backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.Variable(x)
        with tf.GradientTape() as tape:
            value = function(x)
        return tape.gradient(value, x).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(lambda v: function(v))(np.asarray(x)))
    import torch

    x = torch.tensor(x, requires_grad=True)
    function(x).backward()
    return x.grad.numpy()


def numerical_gradient(function, x, step=1e-5):
    """Central differences of a scalar function of one array, in float64."""
    x = np.asarray(x, "float64")
    slopes = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[place] += step
        below[place] -= step
        slopes[place] = (function(above) - function(below)) / (2 * step)
    return slopes
