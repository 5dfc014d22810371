"""ResNet: raw RGB pixels in, feature maps {"P3", "P4", "P5"} out."""

import keras

from keras_gflv2.layers.conv2d import Conv2D

# Blocks a stage; depths from 50 on use bottlenecks.
STAGE_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_EXPANSION = 4
# ImageNet's mean and standard deviation, RGB in 0..255.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ResNet(keras.Model):
    """ResNet (He et al., 2016) with the stride on the 3x3 convolution, as torchvision's.

    Normalises the pixels itself. Batch normalisation uses its running statistics also in training
    by default, and trains its scale and offset: batches of detection are too small for live ones,
    and pretrained weights bring good ones. Training from nothing needs `"batch"`.

    Args:
        depth: 18, 34, 50, 101 or 152.
        base_channels: channels of the first stage; less than 64 makes a narrow variant.
        frozen_stages: -1 trains everything, 0 freezes the stem, 1 also the first stage, ... 4.
        batch_norm_statistics: "running" or "batch" (live in training).
        zero_init_residual: with "batch", each residual branch starts at zero, so that a deep
            network starts as a shallow one. Short trainings get further without.
        pixel_mean, pixel_std: three numbers each, in the units of the images.

    Input (B, H, W, 3) RGB in 0..255. Output {"P3": (B, H/8, W/8, C), "P4": ..., "P5": ...} with C
    2, 4 and 8 times `base_channels`, and 4 times that from depth 50 on; sizes round up.

    >>> backbone = keras_gflv2.backbones.ResNet(depth=18)
    >>> backbone(np.zeros((1, 64, 64, 3)))["P5"].shape    # (1, 2, 2, 512)
    """

    def __init__(
        self,
        depth: int = 50,
        base_channels: int = 64,
        frozen_stages: int = -1,
        batch_norm_statistics: str = "running",
        zero_init_residual: bool = True,
        pixel_mean=PIXEL_MEAN,
        pixel_std=PIXEL_STD,
        name: str = "resnet",
        **kwargs,
    ):
        _check_arguments(depth, frozen_stages, batch_norm_statistics)
        live_statistics = batch_norm_statistics == "batch"
        builder = _Builder(
            depth, live_statistics, zero_init_residual and live_statistics, kwargs.get("dtype")
        )

        # === Functional Model ===
        images = keras.Input((None, None, 3), name="images")
        x = keras.layers.Normalization(
            mean=pixel_mean,
            variance=[s * s for s in pixel_std],
            dtype="float32",
            name="normalization",
        )(images)
        x = builder.stem(x, base_channels)
        outputs = {}
        for stage, blocks in enumerate(STAGE_BLOCKS[depth], start=1):
            channels = base_channels * 2 ** (stage - 1)
            for i in range(blocks):
                stride = 2 if i == 0 and stage > 1 else 1
                x = builder.block(x, channels, stride, f"layer{stage}_{i}")
            if stage > 1:
                outputs[f"P{stage + 1}"] = x
        super().__init__(images, outputs, name=name, **kwargs)
        _freeze(self, frozen_stages)

        # === Config ===
        self.depth = depth
        self.base_channels = base_channels
        self.frozen_stages = frozen_stages
        self.batch_norm_statistics = batch_norm_statistics
        self.zero_init_residual = zero_init_residual
        self.pixel_mean = tuple(float(v) for v in pixel_mean)
        self.pixel_std = tuple(float(v) for v in pixel_std)

    def get_config(self):
        return {
            "depth": self.depth,
            "base_channels": self.base_channels,
            "frozen_stages": self.frozen_stages,
            "batch_norm_statistics": self.batch_norm_statistics,
            "zero_init_residual": self.zero_init_residual,
            "pixel_mean": self.pixel_mean,
            "pixel_std": self.pixel_std,
            "name": self.name,
            "trainable": self.trainable,
        }

    @classmethod
    def from_config(cls, config):
        trainable = config.pop("trainable", True)
        model = cls(**config)
        if not trainable:
            model.trainable = False
        return model


def _check_arguments(depth, frozen_stages, batch_norm_statistics):
    if depth not in STAGE_BLOCKS:
        raise ValueError(f"`depth` must be one of {sorted(STAGE_BLOCKS)}, got {depth}.")
    if frozen_stages not in range(-1, 5):
        raise ValueError(f"`frozen_stages` must be -1 (none) to 4, got {frozen_stages}.")
    if batch_norm_statistics not in ("running", "batch"):
        raise ValueError(
            f'`batch_norm_statistics` must be "running" or "batch", got {batch_norm_statistics!r}.'
        )


def _freeze(model, frozen_stages):
    """Stage 0 is the stem; layers are named after torchvision's stages, `layer1_...`."""
    frozen = [f"layer{i}_" for i in range(1, frozen_stages + 1)]
    if frozen_stages >= 0:
        frozen += ["conv1", "bn1"]
    for layer in model.layers:
        if any(layer.name.startswith(prefix) for prefix in frozen):
            layer.trainable = False


class _Builder:
    """Adds convolutions and blocks to a functional model; its names are torchvision's."""

    def __init__(self, depth, live_statistics, zero_init_residual, dtype):
        self.block = self._bottleneck_block if depth >= 50 else self._basic_block
        self.live_statistics = live_statistics
        self.zero_init_residual = zero_init_residual
        self.dtype = dtype

    def stem(self, x, channels):
        x = self._conv_norm(x, channels, 7, 2, "conv1", "bn1")
        x = self._relu(x, "relu")
        # After a ReLU, padding with 0 is padding with minus infinity.
        x = keras.layers.ZeroPadding2D(
            1, data_format="channels_last", dtype=self.dtype, name="pool_pad"
        )(x)
        return keras.layers.MaxPooling2D(
            3, 2, data_format="channels_last", dtype=self.dtype, name="pool"
        )(x)

    def _basic_block(self, x, channels, stride, name):
        y = self._conv_norm(x, channels, 3, stride, f"{name}_conv1", f"{name}_bn1")
        y = self._relu(y, f"{name}_relu1")
        y = self._conv_norm(y, channels, 3, 1, f"{name}_conv2", f"{name}_bn2", last=True)
        return self._add_shortcut(x, y, channels, stride, name)

    def _bottleneck_block(self, x, channels, stride, name):
        out_channels = channels * BOTTLENECK_EXPANSION
        y = self._conv_norm(x, channels, 1, 1, f"{name}_conv1", f"{name}_bn1")
        y = self._relu(y, f"{name}_relu1")
        y = self._conv_norm(y, channels, 3, stride, f"{name}_conv2", f"{name}_bn2")
        y = self._relu(y, f"{name}_relu2")
        y = self._conv_norm(y, out_channels, 1, 1, f"{name}_conv3", f"{name}_bn3", last=True)
        return self._add_shortcut(x, y, out_channels, stride, name)

    def _add_shortcut(self, x, y, channels, stride, name):
        if stride > 1 or x.shape[-1] != channels:
            x = self._conv_norm(
                x, channels, 1, stride, f"{name}_downsample_0", f"{name}_downsample_1"
            )
        y = keras.layers.Add(dtype=self.dtype, name=f"{name}_add")([x, y])
        return self._relu(y, f"{name}_out")

    def _relu(self, x, name):
        return keras.layers.ReLU(dtype=self.dtype, name=name)(x)

    def _conv_norm(self, x, channels, kernel_size, stride, conv_name, norm_name, last=False):
        """Convolution and batch normalisation; `last` marks the end of a residual branch."""
        x = Conv2D(
            channels,
            kernel_size,
            strides=stride,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "normal"),
            dtype=self.dtype,
            name=conv_name,
        )(x)
        norm_class = (
            keras.layers.BatchNormalization if self.live_statistics else RunningBatchNormalization
        )
        norm = norm_class(
            momentum=0.9,
            epsilon=1e-5,
            gamma_initializer="zeros" if last and self.zero_init_residual else "ones",
            dtype=self.dtype,
            name=norm_name,
        )
        return norm(x)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class RunningBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by the running statistics, whose scale and offset still train.

    A layer of its own because a functional model hands its own `training` to every layer.
    """

    def call(self, inputs, training=None, mask=None):
        del training
        return super().call(inputs, training=False, mask=mask)
