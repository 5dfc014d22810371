"""Pyramid maps in; joint scores and box distributions of every location out."""

import math

import keras
from keras import ops

from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.quality_predictor import DistributionGuidedQualityPredictor

# Every location starts out with this score, so that the many negatives do not swamp the first
# steps (RetinaNet, section 4.1).
PRIOR_PROBABILITY = 0.01


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GFLHead(CompositeLayer):
    """The GFLV2 head (Figure 3): two towers, class scores, box distributions and their quality.

    All weights are shared by the levels but one scale a level, which multiplies the distribution
    logits. The joint score is J = C x I (Eq. 3): class probability times predicted quality.

    Args:
        num_classes: number of classes, without background.
        reg_max: last bin n of a distribution; distances are 0..n strides.
        channels: width of the tower convolutions.
        depth: number of convolutions in each tower.
        norm_groups: groups of the group normalisation, a divisor of `channels`.
        tower_bias: whether tower convolutions have a bias, as PaddleDetection's.
        quality_topk, quality_channels, quality_statistics: see
            `DistributionGuidedQualityPredictor`; without statistics, `()`, it is GFLV1's head,
            where the class branch predicts the joint score itself.
        levels: names of the pyramid's maps, finest first.

    Input {"P3": (B, H/8, W/8, channels of the pyramid), ..., "P7": ...}.
    Output {"scores": (B, A, num_classes) in 0..1, "box_distributions": (B, A, 4, reg_max + 1)
    logits}, float32, locations level by level and row by row, sides left, top, right, bottom.
    GFLV1's head also has "class_logits", whose sigmoid the scores are.
    """

    def __init__(
        self,
        num_classes: int,
        reg_max: int = 16,
        channels: int = 256,
        depth: int = 4,
        norm_groups: int = 32,
        tower_bias: bool = False,
        quality_topk: int = 4,
        quality_channels: int = 64,
        quality_statistics=("topk", "mean"),
        levels=("P3", "P4", "P5", "P6", "P7"),
        **kwargs,
    ):
        super().__init__(**kwargs)
        if num_classes < 1:
            raise ValueError(f"`num_classes` must be at least 1, got {num_classes}.")
        if channels % norm_groups:
            raise ValueError(
                f"`norm_groups` must divide the head's channels: {norm_groups} does not divide "
                f"{channels}."
            )
        self.num_classes = num_classes
        self.reg_max = reg_max
        self.channels = channels
        self.depth = depth
        self.norm_groups = norm_groups
        self.tower_bias = tower_bias
        self.quality_topk = quality_topk
        self.quality_channels = quality_channels
        self.quality_statistics = tuple(quality_statistics)
        self.levels = tuple(levels)

        # === Layers ===
        # Flat lists of layers: Keras 3.12 saves no weights of lists inside lists.
        self.classification_convs = self._convs("classification")
        self.classification_norms = self._norms("classification")
        self.box_convs = self._convs("box")
        self.box_norms = self._norms("box")
        self.classification_conv = self._conv(
            num_classes,
            "classification",
            bias_initializer=keras.initializers.Constant(
                -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY)
            ),
        )
        self.distribution_conv = self._conv(4 * (reg_max + 1), "distribution")
        self.quality_predictor = None
        if self.quality_statistics:
            self.quality_predictor = DistributionGuidedQualityPredictor(
                quality_topk, quality_channels, self.quality_statistics, name="quality_predictor"
            )
        self.remember_layers()

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
        return [
            keras.layers.GroupNormalization(
                self.norm_groups, epsilon=1e-5, dtype=self.dtype_policy, name=f"{name}_norm_{i}"
            )
            for i in range(self.depth)
        ]

    @property
    def classification_tower(self):
        """Pairs of convolution and normalisation; a ReLU follows each."""
        return list(zip(self.classification_convs, self.classification_norms))

    @property
    def box_tower(self):
        """As `classification_tower`, for the distributions."""
        return list(zip(self.box_convs, self.box_norms))

    def build(self, input_shape):
        feature_channels = next(iter(input_shape.values()))[-1]
        for tower in (self.classification_tower, self.box_tower):
            in_channels = feature_channels
            for conv, norm in tower:
                conv.build((None, None, None, in_channels))
                norm.build((None, None, None, self.channels))
                in_channels = self.channels
        for conv in (self.classification_conv, self.distribution_conv):
            conv.build((None, None, None, in_channels))
        if self.quality_predictor:
            self.quality_predictor.build((None, None, 4, self.reg_max + 1))
        self.level_scales = [
            self.add_weight(shape=(), initializer="ones", name=f"scale_{level}", dtype="float32")
            for level in self.levels
        ]

    def call(self, features):
        class_logits, distributions = [], []
        for level, scale in zip(self.levels, self.level_scales):
            x = _apply_tower(self.classification_tower, features[level])
            class_logits.append(_flatten(self.classification_conv(x), (self.num_classes,)))
            x = _apply_tower(self.box_tower, features[level])
            logits = _flatten(self.distribution_conv(x), (4, self.reg_max + 1))
            distributions.append(logits * ops.cast(scale, "float32"))
        class_logits = ops.concatenate(class_logits, axis=1)  # (B, A, C)
        distributions = ops.concatenate(distributions, axis=1)  # (B, A, 4, n + 1)
        scores = ops.sigmoid(class_logits)
        if self.quality_predictor:
            # Eq. 3. The quality keeps its gradient: the score teaches the distributions too.
            scores = scores * self.quality_predictor(distributions)
            return {"scores": scores, "box_distributions": distributions}
        # The loss of a score near 1 has no digits left in float32: GFLV1's is of the logits.
        return {"scores": scores, "box_distributions": distributions, "class_logits": class_logits}

    def compute_output_spec(self, features):
        batch = next(iter(features.values())).shape[0]
        cells = [
            math.prod(f.shape[1:3]) if None not in f.shape[1:3] else None for f in features.values()
        ]
        total = None if None in cells else sum(cells)
        scores = keras.KerasTensor((batch, total, self.num_classes), "float32")
        distributions = keras.KerasTensor((batch, total, 4, self.reg_max + 1), "float32")
        outputs = {"scores": scores, "box_distributions": distributions}
        if not self.quality_predictor:
            outputs["class_logits"] = keras.KerasTensor(scores.shape, "float32")
        return outputs

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "reg_max": self.reg_max,
            "channels": self.channels,
            "depth": self.depth,
            "norm_groups": self.norm_groups,
            "tower_bias": self.tower_bias,
            "quality_topk": self.quality_topk,
            "quality_channels": self.quality_channels,
            "quality_statistics": self.quality_statistics,
            "levels": self.levels,
        }


def _apply_tower(tower, x):
    for conv, norm in tower:
        x = ops.relu(norm(conv(x)))
    return x


def _flatten(x, shape):
    """(B, H, W, C) of any float type -> (B, H * W, *shape) in float32."""
    return ops.cast(ops.reshape(x, (ops.shape(x)[0], -1, *shape)), "float32")
