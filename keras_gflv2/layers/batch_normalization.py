"""Batch normalization with frozen or live statistics."""

import math

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
        if takes_torch_kernels(self, inputs, mask):
            return _by_running_statistics(self, inputs)
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization by the mean and variance of the whole batch, on whatever devices.

    Keras's own `synchronized=True` works on TensorFlow only, and takes the variance as a difference
    of large numbers. Devices must have equally many images each. The name is Keras's: files of
    weights hold their layers under the names of their classes.
    """

    def call(self, inputs, training=None, mask=None):
        if takes_torch_kernels(self, inputs, mask):
            if not (training and self.trainable):
                return _by_running_statistics(self, inputs)
            # PyTorch refuses a single cell, which has no unbiased variance.
            if number_of_replicas() == 1 and math.prod(inputs.shape[:3]) > 1:
                return self._by_torch_statistics(inputs)
        return super().call(inputs, training=training, mask=mask)

    def _by_torch_statistics(self, inputs):
        from keras_gflv2.layers import torch_ops

        outputs, mean, variance = torch_ops.live_batch_normalization(
            inputs, self.gamma, self.beta, self.epsilon
        )
        for running, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(running * self.momentum + value * (1.0 - self.momentum))
        return ops.cast(outputs, self.compute_dtype)

    def _moments(self, inputs, mask):
        if number_of_replicas() == 1:
            return super()._moments(inputs, mask)
        axes = self._reduction_axes
        mean = mean_over_replicas(ops.mean(inputs, axis=axes, keepdims=True))
        variance = mean_over_replicas(ops.mean(ops.square(inputs - mean), axis=axes))
        return ops.squeeze(mean, axes), variance


def takes_torch_kernels(layer, inputs, mask=None):
    """Whether PyTorch's own kernel does what this normalization layer does."""
    return (
        keras.backend.backend() == "torch"
        and mask is None
        and layer.axis in (-1, 3)
        and len(inputs.shape) == 4
        and not getattr(layer, "renorm", False)
    )


def _by_running_statistics(layer, inputs):
    from keras_gflv2.layers import torch_ops

    outputs = torch_ops.batch_normalization(
        inputs,
        layer.moving_mean,
        layer.moving_variance,
        layer.gamma,
        layer.beta,
        layer.epsilon,
    )
    return ops.cast(outputs, layer.compute_dtype)
