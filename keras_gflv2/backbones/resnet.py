"""ResNet: raw RGB pixels in, feature maps {"P3", "P4", "P5"} out."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_gflv2.backbones import presets
from keras_gflv2.backbones.blocks import RecomputedBlocks
from keras_gflv2.backbones.frugal import FrugalModel
from keras_gflv2.layer_settings import LayerSettings
from keras_gflv2.layers.batch_normalization import (
    BatchNormalization,
    RunningBatchNormalization,
)
from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.deformable_conv import DeformableConv2D
from keras_gflv2.layers.overwriting import Add, ReLU
from keras_gflv2.layers.reverse_channels import ReverseChannels
from keras_gflv2.layers.stem_pooling import StemPooling

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
STYLES = ("pytorch", "caffe")


class PyramidBackbone(FrugalModel):
    """What ResNet and Res2Net share: stages of blocks, frozen up to one of them.

    Args:
        builder: a `ResNetBuilder`.
        config: constructor arguments of the subclass, which become attributes.
        trainable: whether it trains at all.
    """

    def __init__(self, builder, config, trainable=True, **kwargs):
        kwargs.pop("dtype", None)  # which functional models of Keras do not heed
        super().__init__(*build_stages(builder), **kwargs)
        self.dtype_policy = builder.dtype
        _freeze(self, config["frozen_stages"])
        for key, value in config.items():
            setattr(self, key, value)
        self._arguments = tuple(config)
        self.layer_settings = LayerSettings(self)
        self._recomputed_blocks = None
        if not trainable:
            self.trainable = False

    def recompute(self, value):
        """Whether a training step computes the maps inside the blocks again, instead of keeping
        them; not with live statistics, which it would update twice."""
        self._recomputed_blocks = None
        if value and self.batch_norm_statistics == "running":
            ends = [layer.name for layer in self.layers if layer.name.endswith("_out")]
            self._recomputed_blocks = RecomputedBlocks(self, ends)

    def call(self, inputs, training=None, mask=None):
        if self._recomputed_blocks is None:
            return super().call(inputs, training=training, mask=mask)
        return self._recomputed_blocks(inputs)

    def get_config(self):
        config = {
            **{key: getattr(self, key) for key in self._arguments},
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }
        changes = self.layer_settings.changes(self)
        return {**config, "layer_settings": changes} if changes else config

    presets: dict[str, Any] = {}

    @classmethod
    def from_preset(cls, preset, load_weights=True, **overrides):
        """A backbone with ImageNet weights.

        Args:
            preset: one of the names in `cls.presets`.
            load_weights: False makes the network alone, without a download.
            **overrides: constructor arguments, e.g. `frozen_stages=1` or `deformable_stages`.

        Raises:
            ValueError: an unknown name.
            keras_gflv2.checkpoints.DownloadError: the weights cannot be had.
        """
        if preset not in cls.presets:
            raise ValueError(f"{preset!r} is none of the presets: {', '.join(cls.presets)}.")
        return presets.load(cls, cls.presets[preset], load_weights, overrides)

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        changes = config.pop("layer_settings", {})
        # A serialized policy is the one that was saved; any other is to hold for all layers.
        dtype = config.get("dtype")
        as_saved = isinstance(dtype, dict)
        if as_saved:
            config["dtype"] = keras.saving.deserialize_keras_object(dtype)
        model = cls(**config)
        model.layer_settings.apply(model, changes, policies=as_saved)
        return model


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ResNet(PyramidBackbone):
    """ResNet (He et al., 2016), with the stride on the 3x3 convolution as in torchvision's.

    With `groups` it is a ResNeXt (Xie et al., 2017), with `deep_stem` and `average_downsampling` a
    ResNet-D (He et al., 2019), with `deformable_stages` one with deformable convolutions.

    Normalizes the pixels itself. Batch normalization uses its running statistics also in training
    by default, and trains its scale and offset: batches of detection are too small for live ones,
    and pretrained weights bring good ones. Training from nothing needs `"batch"`.

    Args:
        depth: 18, 34, 50, 101 or 152.
        base_channels: channels of the first stage; less than 64 makes a narrow variant.
        groups: of the 3x3 convolutions of bottlenecks; ResNeXt-101 32x4d has 32.
        width_per_group: channels of a group in the first stage for 64 base channels; 4 there.
        deep_stem: three 3x3 convolutions instead of one of 7x7.
        average_downsampling: shortcuts that halve the map average first, then project.
        deformable_stages: stages, of 2 to 4, whose 3x3 convolutions are deformable; the paper's
            c3 to c5 are 2, 3 and 4.
        deformable_version: 1, or 2 for modulated ones.
        frozen_stages: -1 trains everything, 0 freezes the stem, 1 also the first stage, ... 4.
        batch_norm_statistics: "running", or "batch": live in training, of the whole batch where it
            is spread over several devices.
        zero_init_residual: with "batch", each residual branch starts at zero, so that a deep
            network starts as a shallow one. Short trainings get further without.
        pixel_mean, pixel_std: three numbers each, in the units of the images and the order RGB.
            Default: ImageNet's; the style "caffe" does not divide, its `pixel_std` is 1.
        style: "pytorch", or "caffe" for weights that come from Caffe or Detectron: the stride of a
            bottleneck is on its first 1x1 convolution, and the first convolution sees the channels
            in the order BGR. Images are RGB in both styles.

    Input (B, H, W, 3) RGB in 0..255. Output {"P3": (B, H/8, W/8, C), "P4": ..., "P5": ...} with C
    2, 4 and 8 times `base_channels`, and 4 times that from depth 50 on; sizes round up.

    >>> backbone = keras_gflv2.backbones.ResNet(depth=18)
    >>> backbone(np.zeros((1, 64, 64, 3)))["P5"].shape    # (1, 2, 2, 512)
    """

    presets = presets.RESNETS

    def __init__(
        self,
        depth: int = 50,
        base_channels: int = 64,
        groups: int = 1,
        width_per_group: int = 64,
        deep_stem: bool = False,
        average_downsampling: bool = False,
        deformable_stages: Sequence[int] = (),
        deformable_version: int = 1,
        frozen_stages: int = -1,
        batch_norm_statistics: str = "running",
        zero_init_residual: bool = True,
        pixel_mean: Sequence[float] = PIXEL_MEAN,
        pixel_std: Sequence[float] | None = None,
        style: str = "pytorch",
        name: str = "resnet",
        **kwargs,
    ):
        if pixel_std is None:
            pixel_std = (1.0, 1.0, 1.0) if style == "caffe" else PIXEL_STD
        config = {
            "depth": depth,
            "base_channels": base_channels,
            "groups": groups,
            "width_per_group": width_per_group,
            "deep_stem": deep_stem,
            "average_downsampling": average_downsampling,
            "deformable_stages": tuple(deformable_stages),
            "deformable_version": deformable_version,
            "frozen_stages": frozen_stages,
            "batch_norm_statistics": batch_norm_statistics,
            "zero_init_residual": zero_init_residual,
            "pixel_mean": tuple(float(v) for v in pixel_mean),
            "pixel_std": tuple(float(v) for v in pixel_std),
            "style": style,
        }
        check_arguments(config)
        if groups > 1 and depth < 50:
            raise ValueError(f"`groups` needs bottlenecks, a depth of 50 or more; got {depth}.")
        super().__init__(ResNetBuilder(config, kwargs.get("dtype")), config, name=name, **kwargs)


def check_arguments(config):
    """Raises ValueError for arguments that make no backbone."""
    depth, stages = config["depth"], config["deformable_stages"]
    if depth not in STAGE_BLOCKS:
        raise ValueError(f"`depth` must be one of {sorted(STAGE_BLOCKS)}, got {depth}.")
    if config["frozen_stages"] not in range(-1, 5):
        raise ValueError(f"`frozen_stages` must be -1 (none) to 4, got {config['frozen_stages']}.")
    if config["batch_norm_statistics"] not in ("running", "batch"):
        raise ValueError(
            '`batch_norm_statistics` must be "running" or "batch", got '
            f"{config['batch_norm_statistics']!r}."
        )
    if not set(stages) <= {1, 2, 3, 4}:
        raise ValueError(f"`deformable_stages` must be of the stages 1 to 4, got {stages}.")
    if stages and depth < 50:
        raise ValueError(
            f"`deformable_stages` needs bottlenecks, a depth of 50 or more; got {depth}."
        )
    if config["deformable_version"] not in (1, 2):
        raise ValueError(
            f"`deformable_version` must be 1 or 2, got {config['deformable_version']}."
        )
    if config.get("style", "pytorch") not in STYLES:
        raise ValueError(f"`style` must be one of {STYLES}, got {config['style']!r}.")


def build_stages(builder):
    """Images -> {"P3", "P4", "P5"}, as the inputs and outputs of a functional model."""
    config = builder.config
    images = keras.Input((None, None, 3), name="images")
    x = keras.layers.Normalization(
        mean=config["pixel_mean"],
        variance=[s * s for s in config["pixel_std"]],
        dtype="float32",
        name="normalization",
    )(images)
    if builder.is_caffe:  # the mean is taken off in the order RGB
        x = ReverseChannels(dtype="float32", name="reverse_channels")(x)
    x = builder.stem(x)
    outputs = {}
    for stage, blocks in enumerate(STAGE_BLOCKS[config["depth"]], start=1):
        for i in range(blocks):
            x = builder.block(x, stage, i)
        if stage > 1:
            outputs[f"P{stage + 1}"] = x
    return images, outputs


def _freeze(model, frozen_stages):
    """Stage 0 is the stem; layers are named after torchvision's stages, `layer1_...`."""
    frozen = [f"layer{i}_" for i in range(1, frozen_stages + 1)]
    if frozen_stages >= 0:
        frozen += ["conv1", "bn1", "stem_"]
    for layer in model.layers:
        if any(layer.name.startswith(prefix) for prefix in frozen):
            layer.trainable = False


class ResNetBuilder:
    """Adds convolutions and blocks to a functional model.

    Layers carry the names of the tensors in torchvision's and mmdetection's files, with _ for the
    dots: `layer1_0_conv2`.
    """

    def __init__(self, config, dtype):
        self.config = config
        self.dtype = keras.dtype_policies.get(dtype)
        self.live_statistics = config["batch_norm_statistics"] == "batch"
        self.is_caffe = config.get("style") == "caffe"

    # === Stem ===

    def stem(self, x):
        channels = self.config["base_channels"]
        if self.config["deep_stem"]:
            x = self.conv_norm(x, channels // 2, 3, 2, "stem_0", "stem_1")
            x = self.relu(x, "stem_2")
            x = self.conv_norm(x, channels // 2, 3, 1, "stem_3", "stem_4")
            x = self.relu(x, "stem_5")
            x = self.conv_norm(x, channels, 3, 1, "stem_6", "stem_7")
            x = self.relu(x, "stem_8")
        else:
            x = self.conv_norm(x, channels, 7, 2, "conv1", "bn1")
            x = self.relu(x, "relu")
        return StemPooling(dtype=self.dtype, name="pool")(x)

    # === Blocks ===

    def block(self, x, stage, index):
        channels = self.config["base_channels"] * 2 ** (stage - 1)
        stride = 2 if index == 0 and stage > 1 else 1
        name = f"layer{stage}_{index}"
        if self.config["depth"] >= 50:
            y = self.bottleneck(x, channels, stage, stride, index == 0, name)
        else:
            y = self.basic(x, channels, stride, name)
        shortcut = self.shortcut(x, y.shape[-1], stride, name)
        y = Add(dtype=self.dtype, name=f"{name}_add")([shortcut, y])
        return self.relu(y, f"{name}_out")

    def basic(self, x, channels, stride, name):
        y = self.conv_norm(x, channels, 3, stride, f"{name}_conv1", f"{name}_bn1")
        y = self.relu(y, f"{name}_relu1")
        return self.conv_norm(y, channels, 3, 1, f"{name}_conv2", f"{name}_bn2", last=True)

    def bottleneck(self, x, channels, stage, stride, first, name):
        del first
        groups = self.config["groups"]
        # ResNeXt: 32 groups of 4 channels where ResNet has 64 channels.
        width = channels * self.config["width_per_group"] // 64 * groups
        strides = (stride, 1) if self.is_caffe else (1, stride)
        y = self.conv_norm(x, width, 1, strides[0], f"{name}_conv1", f"{name}_bn1")
        y = self.relu(y, f"{name}_relu1")
        y = self.conv_norm(
            y, width, 3, strides[1], f"{name}_conv2", f"{name}_bn2", groups=groups, stage=stage
        )
        y = self.relu(y, f"{name}_relu2")
        out_channels = channels * BOTTLENECK_EXPANSION
        return self.conv_norm(y, out_channels, 1, 1, f"{name}_conv3", f"{name}_bn3", last=True)

    def shortcut(self, x, channels, stride, name):
        """The input of a block, brought to the size and width of its output."""
        if stride == 1 and x.shape[-1] == channels:
            return x
        position = 0
        if self.averages_shortcut(stride):
            x = keras.layers.AveragePooling2D(
                stride,
                padding="same",  # rounds sizes up; cells of padding do not count
                data_format="channels_last",
                dtype=self.dtype,
                name=f"{name}_downsample_0",
            )(x)
            position, stride = 1, 1
        return self.conv_norm(
            x,
            channels,
            1,
            stride,
            f"{name}_downsample_{position}",
            f"{name}_downsample_{position + 1}",
        )

    def averages_shortcut(self, stride):
        return self.config["average_downsampling"] and stride > 1

    # === Parts ===

    def relu(self, x, name):
        return ReLU(dtype=self.dtype, name=name)(x)

    def conv_norm(
        self, x, channels, kernel_size, stride, conv_name, norm_name, *, groups=1, stage=None,
        last=False,
    ):  # fmt: skip
        """Convolution and batch normalization.

        `stage` is given for the convolutions that a deformable stage deforms, `last` marks the end
        of a residual branch.
        """
        conv_class, options = Conv2D, {}
        if stage in self.config["deformable_stages"]:
            conv_class = DeformableConv2D
            options = {"modulated": self.config["deformable_version"] == 2}
        x = conv_class(
            channels,
            kernel_size,
            strides=stride,
            groups=groups,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "normal"),
            dtype=self.dtype,
            name=conv_name,
            **options,
        )(x)
        norm_class = BatchNormalization if self.live_statistics else RunningBatchNormalization
        starts_at_zero = last and self.live_statistics and self.config["zero_init_residual"]
        norm = norm_class(
            momentum=0.9,
            epsilon=1e-5,
            gamma_initializer="zeros" if starts_at_zero else "ones",
            dtype=self.dtype,
            name=norm_name,
        )
        return norm(x)
