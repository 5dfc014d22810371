"""Feature maps P3, P4, P5 of a backbone in, the five levels P3..P7 of the pyramid out."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.conv2d import Conv2D


@keras.saving.register_keras_serializable(package="keras_gflv2")
class FeaturePyramid(CompositeLayer):
    """Feature Pyramid Network (Lin et al., 2017) with two extra levels, as GFL uses it.

    1x1 convolutions bring the backbone's maps to one width, coarse maps are added to finer ones by
    nearest up-sampling, a 3x3 convolution smooths each sum; P6 and P7 are strided convolutions of
    the P5 output and of P6, without a ReLU between them (PaddleDetection has one).

    Args:
        channels: width of every output map.
        levels: names of the backbone's maps, finest first.
        extra_levels: how many coarser maps are added.
        extra_relu: whether a ReLU comes before P7 (and those after it, if any).
        extra_from: what P6 is computed from: "output", the P5 of the pyramid, or "input", that of
            the backbone (RetinaNet).

    Input {"P3": (B, H/8, W/8, C3), "P4": ..., "P5": ...}; output {"P3", ..., "P7"} with maps of
    `channels` channels. A map must have ceil(size / 2) of the size of the next finer one.
    """

    def __init__(
        self,
        channels: int = 256,
        levels: Sequence[str] = ("P3", "P4", "P5"),
        extra_levels: int = 2,
        extra_relu: bool = False,
        extra_from: str = "output",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = channels
        self.levels = tuple(levels)
        self.extra_levels = extra_levels
        self.extra_relu = extra_relu
        if extra_from not in ("output", "input"):
            raise ValueError(f'`extra_from` must be "output" or "input", got {extra_from!r}.')
        self.extra_from = extra_from
        self.lateral_convs = [self._conv(1, f"lateral_{level}") for level in levels]
        self.output_convs = [self._conv(3, f"output_{level}") for level in levels]
        coarsest = int(self.levels[-1][1:])
        self.extra_convs = [
            self._conv(3, f"output_P{coarsest + i}", strides=2) for i in range(1, extra_levels + 1)
        ]
        self.remember_layers()

    def _conv(self, kernel_size, name, strides=1):
        return Conv2D(
            self.channels,
            kernel_size,
            strides=strides,
            kernel_initializer="glorot_uniform",
            dtype=self.dtype_policy,
            name=name,
        )

    @property
    def output_levels(self):
        """Names of the output maps, finest first."""
        finest = int(self.levels[0][1:])
        return tuple(f"P{finest + i}" for i in range(len(self.levels) + self.extra_levels))

    def build(self, input_shape):
        for level, conv in zip(self.levels, self.lateral_convs):
            conv.build(input_shape[level])
        for i, conv in enumerate(self.output_convs + self.extra_convs):
            from_backbone = i == len(self.output_convs) and self.extra_from == "input"
            channels = input_shape[self.levels[-1]][-1] if from_backbone else self.channels
            conv.build((None, None, None, channels))

    def call(self, features):
        sums = [conv(features[level]) for level, conv in zip(self.levels, self.lateral_convs)]
        for i in reversed(range(len(sums) - 1)):
            sums[i] = sums[i] + _upsample_to(sums[i + 1], sums[i])
        outputs = [conv(x) for conv, x in zip(self.output_convs, sums)]
        x = features[self.levels[-1]] if self.extra_from == "input" else outputs[-1]
        for i, conv in enumerate(self.extra_convs):
            x = conv(ops.relu(x) if self.extra_relu and i > 0 else x)
            outputs.append(x)
        return dict(zip(self.output_levels, outputs))

    def compute_output_shape(self, input_shape):
        shapes = [(*input_shape[level][:3], self.channels) for level in self.levels]
        for conv in self.extra_convs:
            shapes.append(conv.compute_output_shape(shapes[-1]))
        return dict(zip(self.output_levels, shapes))

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "levels": self.levels,
            "extra_levels": self.extra_levels,
            "extra_relu": self.extra_relu,
            "extra_from": self.extra_from,
        }


def _upsample_to(coarse, fine):
    """Nearest up-sampling of `coarse` to the exact height and width of `fine`."""
    # The coarse size is ceil(fine / 2), so nearest is each cell twice and a cut of at most one.
    if keras.backend.backend() == "torch":
        from keras_gflv2.layers import torch_ops

        doubled = torch_ops.double(coarse)
    else:
        doubled = ops.repeat(ops.repeat(coarse, 2, axis=1), 2, axis=2)
    height, width = ops.shape(fine)[1:3]
    return doubled[:, :height, :width]
