"""Batch normalization with frozen or live statistics."""

import keras
from keras import ops

from keras_gflv2.replicas import mean_over_replicas, number_of_replicas


@keras.saving.register_keras_serializable(package="keras_gflv2")
class RunningBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization by the running statistics, whose scale and offset still train.

    A layer of its own because a functional model hands its own `training` to every layer.
    """

    def call(self, inputs, training=None, mask=None):
        del training
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization by the mean and variance of the whole batch, on whatever devices.

    Keras's own `synchronized=True` works on TensorFlow only, and takes the variance as a difference
    of large numbers. Devices must have equally many images each. The name is Keras's: files of
    weights hold their layers under the names of their classes.
    """

    def _moments(self, inputs, mask):
        if number_of_replicas() == 1:
            return super()._moments(inputs, mask)
        axes = self._reduction_axes
        mean = mean_over_replicas(ops.mean(inputs, axis=axes, keepdims=True))
        variance = mean_over_replicas(ops.mean(ops.square(inputs - mean), axis=axes))
        return ops.squeeze(mean, axes), variance
