"""Res2Net v1d: raw RGB pixels in, feature maps {"P3", "P4", "P5"} out."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.backbones import presets
from keras_gflv2.backbones.resnet import (
    BOTTLENECK_EXPANSION,
    PIXEL_MEAN,
    PIXEL_STD,
    PyramidBackbone,
    ResNetBuilder,
    check_arguments,
)
from keras_gflv2.layers.overwriting import Add
from keras_gflv2.layers.own_canvas import only_own


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Res2Net(PyramidBackbone):
    """Res2Net (Gao et al., 2021), variant v1d, by default 26w x 4s.

    Where a bottleneck has one 3x3 convolution, its channels are split into `scales` parts: each
    part but the last has a small convolution of its own, and is added what came out of the part
    before, so that one block sees objects at several scales. Stem and shortcuts are ResNet-D's.

    Args:
        depth: 50, 101 or 152.
        scales: number of parts of a block's channels.
        base_width: channels of a part in the first stage.
        base_channels, deformable_stages, deformable_version, frozen_stages, batch_norm_statistics,
            zero_init_residual, pixel_mean, pixel_std: see `ResNet`.

    Input and output as `ResNet`'s.
    """

    presets = presets.RES2NETS

    def __init__(
        self,
        depth: int = 101,
        scales: int = 4,
        base_width: int = 26,
        base_channels: int = 64,
        deformable_stages: Sequence[int] = (),
        deformable_version: int = 1,
        frozen_stages: int = -1,
        batch_norm_statistics: str = "running",
        zero_init_residual: bool = True,
        pixel_mean: Sequence[float] = PIXEL_MEAN,
        pixel_std: Sequence[float] = PIXEL_STD,
        name: str = "res2net",
        **kwargs,
    ):
        config = {
            "depth": depth,
            "scales": scales,
            "base_width": base_width,
            "base_channels": base_channels,
            "deformable_stages": tuple(deformable_stages),
            "deformable_version": deformable_version,
            "frozen_stages": frozen_stages,
            "batch_norm_statistics": batch_norm_statistics,
            "zero_init_residual": zero_init_residual,
            "pixel_mean": tuple(float(v) for v in pixel_mean),
            "pixel_std": tuple(float(v) for v in pixel_std),
        }
        check_arguments(config)
        if depth < 50 or scales < 2:
            raise ValueError(
                "Res2Net needs a `depth` of 50 or more and 2 or more `scales`; got "
                f"depth={depth}, scales={scales}."
            )
        super().__init__(Res2NetBuilder(config, kwargs.get("dtype")), config, name=name, **kwargs)


class Res2NetBuilder(ResNetBuilder):
    """Blocks whose 3x3 convolution is split into scales."""

    def __init__(self, config, dtype):
        super().__init__({**config, "deep_stem": True, "average_downsampling": True}, dtype)

    def averages_shortcut(self, stride):
        # As in the official code also at stride 1, where averaging single cells changes nothing.
        return True

    def bottleneck(self, x, channels, stage, stride, first, name):
        scales = self.config["scales"]
        width = channels * self.config["base_width"] // 64
        y = self.conv_norm(x, width * scales, 1, 1, f"{name}_conv1", f"{name}_bn1")
        y = self.relu(y, f"{name}_relu1")
        parts = Split(scales, dtype=self.dtype, name=f"{name}_split")(y)
        results = []
        for i, part in enumerate(parts[:-1]):
            # The first block of a stage has parts of another size than its results.
            if results and not first:
                add = Add(dtype=self.dtype, name=f"{name}_add_{i}")
                part = add([results[-1], part])
            part = self.conv_norm(
                part, width, 3, stride, f"{name}_convs_{i}", f"{name}_bns_{i}", stage=stage
            )
            results.append(self.relu(part, f"{name}_relus_{i}"))
        results.append(self._last_part(parts[-1], stride, name))
        y = keras.layers.Concatenate(dtype=self.dtype, name=f"{name}_concatenate")(results)
        out_channels = channels * BOTTLENECK_EXPANSION
        return self.conv_norm(y, out_channels, 1, 1, f"{name}_conv3", f"{name}_bn3", last=True)

    def _last_part(self, x, stride, name):
        """The part without a convolution; where the map is halved it is averaged."""
        if stride == 1:
            return x
        # Zeros of the padding count here, unlike in the shortcut.
        x = ZeroPadding2D(
            1, data_format="channels_last", dtype=self.dtype, name=f"{name}_average_pad"
        )(x)
        return keras.layers.AveragePooling2D(
            3, stride, data_format="channels_last", dtype=self.dtype, name=f"{name}_average"
        )(x)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Split(keras.layers.Layer):
    """Splits the channels of a map into equal parts: (B, H, W, C) -> list of (B, H, W, C / n)."""

    def __init__(self, parts, **kwargs):
        super().__init__(**kwargs)
        self.parts = parts

    def call(self, inputs):
        return ops.split(inputs, self.parts, axis=-1)

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ZeroPadding2D(keras.layers.ZeroPadding2D):
    """`keras.layers.ZeroPadding2D`, of images with an own canvas around that one."""

    def call(self, inputs):
        return super().call(only_own(inputs))
