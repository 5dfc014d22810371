"""ReLU and sum that can be computed in the memory of their input, on PyTorch.

A map of the backbone takes longer to allocate than to rectify. Whoever passes `overwrite=True`
knows that nobody else reads the input. It is ignored where a gradient is wanted, which would have
to be copied for it, and on other backends, whose compilers know it anyway. The names of the layers
are Keras's: files of weights hold layers under the names of their classes.
"""

import keras
from keras import ops


def may_overwrite(inputs):
    """Whether operations in the memory of a map that nobody else reads are possible and faster."""
    return keras.backend.backend() == "torch" and not inputs.requires_grad


def rectify(inputs):
    """ReLU of a map that nobody else reads."""
    return inputs.relu_() if may_overwrite(inputs) else ops.relu(inputs)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ReLU(keras.layers.ReLU):
    """`keras.layers.ReLU`; with `overwrite`, in the memory of its input."""

    def call(self, inputs, overwrite=False):
        return rectify(inputs) if overwrite else super().call(inputs)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Add(keras.layers.Add):
    """`keras.layers.Add`; with `overwrite`, of two maps in the memory of the second."""

    def call(self, inputs, overwrite=False):
        if not overwrite or not may_overwrite(inputs[-1]):
            return super().call(inputs)
        first, second = inputs
        return second.add_(first)
