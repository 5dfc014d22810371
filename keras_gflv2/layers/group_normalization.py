"""Group normalization with PyTorch's own kernel on that backend."""

import keras
from keras import ops

from keras_gflv2.layers.batch_normalization import takes_torch_kernels
from keras_gflv2.layers.overwriting import may_overwrite


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GroupNormalization(keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization`, faster on PyTorch.

    With `overwrite` it may leave anything in the memory of its input.

    The name is Keras's: files of weights hold their layers under the names of their classes.
    """

    def call(self, inputs, overwrite=False):
        if not takes_torch_kernels(self, inputs):
            return super().call(inputs)
        from keras_gflv2.layers import torch_ops

        overwrite = overwrite and may_overwrite(inputs)
        outputs = torch_ops.group_normalization(
            inputs, self.groups, self.gamma, self.beta, self.epsilon, overwrite
        )
        return ops.cast(outputs, self.compute_dtype)
