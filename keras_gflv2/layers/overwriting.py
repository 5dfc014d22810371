"""ReLU and sum that can be computed in the memory of their input, on PyTorch.

A map of the backbone takes longer to allocate than to rectify. Whoever passes `overwrite=True`
knows that nobody else reads the input; on other backends the compiler knows, and it is ignored.
The names are Keras's: files of weights hold layers under the names of their classes.
"""

import keras


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ReLU(keras.layers.ReLU):
    """`keras.layers.ReLU`; with `overwrite`, in the memory of its input."""

    def call(self, inputs, overwrite=False):
        if not overwrite or keras.backend.backend() != "torch":
            return super().call(inputs)
        return inputs.relu_()


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Add(keras.layers.Add):
    """`keras.layers.Add` of two maps; with `overwrite`, in the memory of the second."""

    def call(self, inputs, overwrite=False):
        if not overwrite or keras.backend.backend() != "torch":
            return super().call(inputs)
        first, second = inputs
        return second.add_(first)
