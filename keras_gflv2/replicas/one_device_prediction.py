"""Prediction on one of the devices that a model is spread over."""

import keras
import numpy as np


class OneDevicePrediction:
    """`predict_step` of a model whose weights are on several devices, on one of them.

    Keras hands a batch to all devices: on JAX it must be divisible by their number, on TensorFlow
    each gets a copy of it, and of several processes all must take part. Here this process uses the
    weights that it has.

    Args:
        model: a built `keras.Model`.
    """

    def __init__(self, model):
        self._model = model
        if keras.backend.backend() == "jax":
            import jax

            self._step = jax.jit(lambda state, batch: model.predict_step(state, batch)[0])
        else:
            import tensorflow as tf

            self._step = tf.function(model.predict_step, reduce_retracing=True)

    def __call__(self, batch):
        """What `predict_on_batch` returns, as numpy arrays."""
        if keras.backend.backend() == "jax":
            variables = (self._model.trainable_variables, self._model.non_trainable_variables)
            state = tuple([v.value.addressable_data(0) for v in group] for group in variables)
            found = self._step(state, (batch,))
        else:
            found = self._step((keras.tree.map_structure(keras.ops.convert_to_tensor, batch),))
        return keras.tree.map_structure(np.asarray, found)
