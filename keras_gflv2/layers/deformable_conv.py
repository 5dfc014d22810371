"""A convolution whose taps move: deformable convolution v1 and v2."""

import keras
from keras import ops

from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.bilinear import bilinear_samples
from keras_gflv2.layers.conv2d import Conv2D, grouped_matmul, same_padding
from keras_gflv2.layers.own_canvas import only_own


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DeformableConv2D(CompositeLayer, Conv2D):
    """Deformable convolution (Dai et al., 2017), or modulated, v2 (Zhu et al., 2019).

    An inner convolution predicts for every output cell and tap how far the tap moves, and in v2 a
    weight in 0..1 of what it reads. Taps read by bilinear interpolation; outside the map is zero.
    It starts out as an ordinary convolution (v2: at half its strength), as the official one does.

    Args:
        filters, kernel_size, strides, padding, dilation_rate, groups, ...: as in `Conv2D`.
        modulated: True for v2.
        deformable_groups: parts of the input's channels that move on their own.

    Input (B, H, W, C), output (B, H', W', filters).
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = 1,
        padding: str = "same",
        modulated: bool = False,
        deformable_groups: int = 1,
        **kwargs,
    ):
        super().__init__(filters, kernel_size, strides=strides, padding=padding, **kwargs)
        if deformable_groups < 1:
            raise ValueError(f"`deformable_groups` must be at least 1, got {deformable_groups}.")
        self.modulated = modulated
        self.deformable_groups = deformable_groups
        taps = self.kernel_size[0] * self.kernel_size[1]
        # 18 or 27 for the usual 3x3: the checkpoint tells v1 from v2 by it.
        self.conv_offset = Conv2D(
            deformable_groups * taps * (3 if modulated else 2),
            kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=self.dilation_rate,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="conv_offset",
        )
        self.remember_layers()

    def build(self, input_shape):
        if input_shape[-1] % self.deformable_groups:
            raise ValueError(
                f"`deformable_groups` must divide the input's channels: {self.deformable_groups} "
                f"does not divide {input_shape[-1]}."
            )
        super().build(input_shape)
        self.conv_offset.build(input_shape)

    def call(self, inputs):
        inputs = only_own(inputs)
        moves = ops.cast(self.conv_offset(inputs), "float32")
        mask = None
        if self.modulated:
            # (B, H', W', 2/3 offsets, 1/3 mask): o1, o2 and the mask follow each other.
            count = moves.shape[-1] // 3 * 2
            moves, mask = moves[..., :count], ops.sigmoid(moves[..., count:])
        outputs = deformable_convolution(
            inputs,
            self.kernel,
            moves,
            mask,
            strides=self.strides,
            padding=same_padding(self) if self.padding == "same" else (0, 0),
            dilation_rate=self.dilation_rate,
            groups=self.groups,
            deformable_groups=self.deformable_groups,
        )
        if self.use_bias:
            outputs = outputs + ops.reshape(self.bias, (1, 1, 1, -1))
        return outputs if self.activation is None else self.activation(outputs)

    def get_config(self):
        return {
            **super().get_config(),
            "modulated": self.modulated,
            "deformable_groups": self.deformable_groups,
        }


def deformable_convolution(
    inputs,
    kernel,
    offsets,
    mask=None,
    *,
    strides=(1, 1),
    padding=(0, 0),
    dilation_rate=(1, 1),
    groups=1,
    deformable_groups=1,
):
    """Convolution whose taps are moved by `offsets`.

    Args:
        inputs: (B, H, W, C).
        kernel: (kh, kw, C / groups, D).
        offsets: float32 (B, H', W', deformable_groups * kh * kw * 2) in cells of the input; group
            by group, tap by tap, y then x.
        mask: float32 (B, H', W', deformable_groups * kh * kw), factors of what the taps read, or
            None.
        strides, padding, dilation_rate: (vertical, horizontal); padding is symmetric.
        groups: of the convolution.
        deformable_groups: parts of the channels with offsets of their own.

    Returns:
        (B, H', W', D).
    """
    batch, out_height, out_width = ops.shape(offsets)[:3]
    taps = kernel.shape[0] * kernel.shape[1]
    channels = inputs.shape[-1]
    offsets = ops.reshape(offsets, (batch, out_height, out_width, deformable_groups, taps, 2))
    grid = _tap_grid(out_height, out_width, kernel.shape[:2], strides, padding, dilation_rate)
    positions = grid[:, :, None] + offsets  # (B, H', W', G, K, 2)
    if mask is not None:
        mask = ops.reshape(mask, (batch, out_height, out_width, deformable_groups, taps))
    samples = bilinear_samples(inputs, positions, mask)  # (B, H', W', G, K, C / G)
    # One row for each output cell: tap by tap all channels, as the kernel has them.
    samples = ops.transpose(samples, (0, 1, 2, 4, 3, 5))
    samples = ops.reshape(samples, (-1, taps, channels))
    outputs = grouped_matmul(samples, ops.reshape(kernel, (taps, -1, kernel.shape[-1])), groups)
    return ops.reshape(outputs, (batch, out_height, out_width, kernel.shape[-1]))


def _tap_grid(height, width, kernel_size, strides, padding, dilation_rate):
    """Where the taps are before they move: (H', W', K, 2) y and x in cells of the input."""
    axes = []
    for size, taps, stride, pad, dilation in zip(
        (height, width), kernel_size, strides, padding, dilation_rate
    ):
        start = ops.arange(size, dtype="float32") * stride - pad
        axes.append(start[:, None] + ops.arange(taps, dtype="float32") * dilation)
    y, x = axes  # (H', kh), (W', kw)
    shape = (height, width, *kernel_size)
    y = ops.broadcast_to(y[:, None, :, None], shape)
    x = ops.broadcast_to(x[None, :, None, :], shape)
    return ops.reshape(ops.stack([y, x], axis=-1), (height, width, -1, 2))
