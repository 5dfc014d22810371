"""Group normalization with PyTorch's own kernel on that backend."""

import keras
from keras import ops

from keras_gflv2.layers.batch_normalization import takes_torch_kernels
from keras_gflv2.layers.overwriting import may_overwrite
from keras_gflv2.layers.own_canvas import own_cells


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GroupNormalization(keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization`, faster on PyTorch.

    Of images with an own canvas in the batch's, the statistics are those of the own canvas. With
    `overwrite` it may leave anything in the memory of its input.

    The name is Keras's: files of weights hold their layers under the names of their classes.
    """

    def call(self, inputs, overwrite=False):
        own = own_cells(inputs)
        if own is not None:
            return self._by_own_cells(inputs, own)
        if not takes_torch_kernels(self, inputs):
            return super().call(inputs)
        from keras_gflv2.layers import torch_ops

        overwrite = overwrite and may_overwrite(inputs)
        outputs = torch_ops.group_normalization(
            inputs, self.groups, self.gamma, self.beta, self.epsilon, overwrite
        )
        return ops.cast(outputs, self.compute_dtype)

    def _by_own_cells(self, inputs, own):
        """Maps (B, H, W, C) normalized by the statistics of the cells `own` (B, H, W, 1)."""
        maps = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        channels = maps.shape[-1]
        size = channels // self.groups
        numbers = ops.sum(ops.cast(own, maps.dtype), axis=(1, 2)) * size  # (B, 1), of a group

        def mean(values):
            total = ops.sum(ops.where(own, values, 0.0), axis=(1, 2))  # (B, C)
            total = ops.sum(ops.reshape(total, (-1, self.groups, size)), axis=-1)
            return ops.repeat(total / numbers, size, axis=-1)[:, None, None]  # (B, 1, 1, C)

        maps = maps - mean(maps)
        factor = ops.rsqrt(mean(ops.square(maps)) + self.epsilon)
        if self.scale:
            factor = factor * ops.cast(self.gamma, maps.dtype)
        maps = maps * factor
        if self.center:
            maps = maps + ops.cast(self.beta, maps.dtype)
        return ops.cast(maps, self.compute_dtype)
