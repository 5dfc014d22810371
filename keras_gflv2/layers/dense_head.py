"""Pyramid maps in; scores and the raw numbers of the box of every location out."""

import functools
import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.group_normalization import GroupNormalization
from keras_gflv2.layers.overwriting import rectify
from keras_gflv2.layers.own_canvas import only_own
from keras_gflv2.layers.quality.quality import LevelFeatures, NoQuality, Quality
from keras_gflv2.representations import BoxRepresentation, GeneralDistribution

# Every location starts out with this score, so that the many negatives do not swamp the first
# steps (RetinaNet, section 4.1).
PRIOR_PROBABILITY = 0.01
LEVELS = ("P3", "P4", "P5", "P6", "P7")
NO_QUALITY = NoQuality()
# Its sigmoid is 0: what lies outside of the own canvas of an image is no object.
NO_OBJECT = -1e4


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DenseHead(CompositeLayer):
    """The head of a dense detector: two towers, class logits, boxes and their quality.

    All weights are shared by the levels but one scale per level, which multiplies the raw numbers
    of the boxes.

    Args:
        num_classes: number of classes, without background.
        representation: a `BoxRepresentation`: which numbers mean a box. Default
            `GeneralDistribution()`.
        quality: a `Quality`: how the quality of a box is told. Default: not at all.
        grid: the `AnchorGrid` of the locations. Default `AnchorGrid()`.
        channels: width of the tower convolutions.
        depth: number of convolutions in each tower.
        norm_groups: groups of the group normalization, a divisor of `channels`; None for towers
            without normalization.
        tower_bias: whether tower convolutions have a bias.
        level_scales: whether there is a learned scale per level.
        levels: names of the pyramid's maps, finest first.

    Input {"P3": (B, H/8, W/8, channels of the pyramid), ..., "P7": ...}.
    Output, float32, for the A locations level by level, row by row, anchors of a cell together:
    "scores" (B, A, num_classes) in 0..1; the raw numbers (B, A, *representation.shape) under
    `representation.output_name`; and what the quality adds, e.g. "class_logits" (B, A, C).

    Raises:
        ValueError: `num_classes` is less than 1, or `norm_groups` does not divide `channels`.
    """

    def __init__(
        self,
        num_classes: int,
        representation: BoxRepresentation | None = None,
        quality: Quality | None = None,
        grid: AnchorGrid | None = None,
        channels: int = 256,
        depth: int = 4,
        norm_groups: int | None = 32,
        tower_bias: bool = False,
        level_scales: bool = True,
        levels: Sequence[str] = LEVELS,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
        if norm_groups and channels % norm_groups:
            raise ValueError(
                f"`norm_groups` must divide the head's channels: {norm_groups} does not divide "
                f"{channels}."
            )
        self.num_classes = num_classes
        self.representation = representation or GeneralDistribution()
        self.grid = grid or AnchorGrid()
        self.channels = channels
        self.depth = depth
        self.norm_groups = norm_groups
        self.tower_bias = tower_bias
        self.has_level_scales = level_scales
        self.levels = tuple(levels)
        # Whether a training step computes the maps inside the towers again, instead of keeping
        # them.
        self.recomputes = False

        # === Layers ===
        # Flat lists of layers: Keras 3.12 saves no weights of lists inside lists.
        self.classification_convs = self._convs("classification")
        self.classification_norms = self._norms("classification")
        self.box_convs = self._convs("box")
        self.box_norms = self._norms("box")
        per_cell = self.grid.anchors_per_cell
        self.classification_conv = self._conv(
            per_cell * num_classes,
            "classification",
            bias_initializer=keras.initializers.Constant(
                -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)
            ),
        )
        self.regression_conv = self._conv(
            per_cell * self.representation.channels, self.regression_name
        )
        self.quality_predictor = quality
        self.remember_layers()

    # Name of the layer that predicts the boxes, not of its attribute.
    regression_name = "regression"

    def _conv(self, filters, name, **kwargs):
        return Conv2D(
            filters,
            3,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=self.dtype_policy,
            name=name,
            **kwargs,
        )

    def _convs(self, name):
        return [
            self._conv(self.channels, f"{name}_{i}", use_bias=self.tower_bias)
            for i in range(self.depth)
        ]

    def _norms(self, name):
        if not self.norm_groups:
            return []
        return [
            GroupNormalization(
                self.norm_groups, epsilon=1e-5, dtype=self.dtype_policy, name=f"{name}_norm_{i}"
            )
            for i in range(self.depth)
        ]

    @property
    def classification_tower(self):
        """Pairs of convolution and normalization, None without; a ReLU follows each."""
        norms = self.classification_norms or [None] * self.depth
        return list(zip(self.classification_convs, norms))

    @property
    def box_tower(self):
        """As `classification_tower`, for the boxes."""
        return list(zip(self.box_convs, self.box_norms or [None] * self.depth))

    @property
    def _quality(self):
        return self.quality_predictor or NO_QUALITY

    def build(self, input_shape):
        channels = next(iter(input_shape.values()))[-1]
        for tower in (self.classification_tower, self.box_tower):
            in_channels = channels
            for conv, norm in tower:
                conv.build((None, None, None, in_channels))
                if norm is not None:
                    norm.build((None, None, None, self.channels))
                in_channels = self.channels
        per_cell = self.grid.anchors_per_cell
        extended = in_channels + self._quality.extra_channels(per_cell)
        self.classification_conv.build((None, None, None, extended))
        self.regression_conv.build((None, None, None, in_channels))
        self._quality.build_from(in_channels, self.representation.shape, per_cell)
        self.level_scales = [
            self.add_weight(shape=(), initializer="ones", name=f"scale_{level}", dtype="float32")
            for level in self.levels[: None if self.has_level_scales else 0]
        ]

    def call(self, features):
        parts = [self._level(i, features[level]) for i, level in enumerate(self.levels)]
        class_logits, raw, readings = (
            None if part[0] is None else ops.concatenate(part, axis=1) for part in zip(*parts)
        )
        outputs = self._quality.combine(class_logits, raw, readings)
        return {**outputs, self.representation.output_name: raw}

    def _level(self, index, features):
        """Class logits (B, A_l, C), raw numbers and the quality's reading of one level."""
        level = LevelFeatures(
            classification=self._apply(self.classification_tower, features),
            box=self._apply(self.box_tower, features),
            raw=None,
            representation=self.representation,
            grid=self.grid,
            index=index,
        )
        raw = _flatten(self.regression_conv(level.box), self.representation.shape)
        if self.level_scales:
            raw = raw * ops.cast(self.level_scales[index], "float32")
        level.raw = self.representation.activate(raw)
        class_logits = self.classification_conv(self._quality.extend(level))
        class_logits = _flatten(only_own(class_logits, outside=NO_OBJECT), (self.num_classes,))
        return class_logits, level.raw, self._quality.read(level)

    def _apply(self, tower, features):
        apply = functools.partial(_apply_tower, tower)
        return keras.remat(apply)(features) if self.recomputes else apply(features)

    def compute_output_spec(self, features):
        batch = next(iter(features.values())).shape[0]
        cells = [
            math.prod(f.shape[1:3]) if None not in f.shape[1:3] else None for f in features.values()
        ]
        total = None if None in cells else sum(cells) * self.grid.anchors_per_cell
        shapes = self._quality.output_shapes((batch, total, self.num_classes))
        raw_shape = (batch, total, *self.representation.shape)
        shapes = {
            "scores": shapes.pop("scores"),
            self.representation.output_name: raw_shape,
        } | shapes
        return {name: keras.KerasTensor(shape, "float32") for name, shape in shapes.items()}

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "representation": self.representation,
            "quality": self.quality_predictor,
            "grid": self.grid,
            "channels": self.channels,
            "depth": self.depth,
            "norm_groups": self.norm_groups,
            "tower_bias": self.tower_bias,
            "level_scales": self.has_level_scales,
            "levels": self.levels,
        }

    @classmethod
    def from_config(cls, config):
        parts = {
            name: keras.saving.deserialize_keras_object(value)
            for name, value in config.items()
            if isinstance(value, dict) and "class_name" in value and name != "dtype"
        }
        return super().from_config({**config, **parts})


def _apply_tower(tower, x):
    for conv, norm in tower:
        x = conv(x)
        x = rectify(x if norm is None else norm(x, overwrite=True))
    return x


def _flatten(x, shape):
    """(B, H, W, K * C) of any float type -> (B, H * W * K, *shape) in float32."""
    return ops.cast(ops.reshape(x, (ops.shape(x)[0], -1, *shape)), "float32")
