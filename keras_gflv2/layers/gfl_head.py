"""The head of GFLV1 and GFLV2: a `DenseHead` with its parts named by numbers."""

from collections.abc import Sequence

import keras

from keras_gflv2.layers.dense_head import LEVELS, DenseHead
from keras_gflv2.layers.quality import DistributionGuidedQualityPredictor
from keras_gflv2.representations import GeneralDistribution


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GFLHead(DenseHead):
    """The GFLV2 head (Figure 3): two towers, class scores, box distributions and their quality.

    The joint score is J = C x I (Eq. 3): class probability times predicted quality.

    Args:
        num_classes: number of classes, without background.
        reg_max: last bin n of a distribution; distances are 0..n strides.
        channels, depth, norm_groups, tower_bias, levels: see `DenseHead`.
        quality_topk, quality_channels, quality_statistics: see
            `DistributionGuidedQualityPredictor`; without statistics, `()`, it is GFLV1's head,
            where the class branch predicts the joint score itself.

    Output {"scores": (B, A, num_classes) in 0..1, "box_distributions": (B, A, 4, reg_max + 1)
    logits}, float32, locations level by level and row by row, sides left, top, right, bottom.
    GFLV1's head also has "class_logits", whose sigmoid the scores are.
    """

    regression_name = "distribution"

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
        quality_statistics: Sequence[str] = ("topk", "mean"),
        levels: Sequence[str] = LEVELS,
        **kwargs,
    ):
        super().__init__(
            num_classes,
            GeneralDistribution(reg_max),
            channels=channels,
            depth=depth,
            norm_groups=norm_groups,
            tower_bias=tower_bias,
            levels=levels,
            **kwargs,
        )
        self.reg_max = reg_max
        self.quality_topk = quality_topk
        self.quality_channels = quality_channels
        self.quality_statistics = tuple(quality_statistics)
        if quality_statistics:
            self.quality_predictor = DistributionGuidedQualityPredictor(
                quality_topk, quality_channels, quality_statistics, name="quality_predictor"
            )
            self.remember_layers()

    @property
    def distribution_conv(self):
        """`regression_conv`, under the name that weight files know: Keras saves a layer under the
        first of its names in the alphabet."""
        return self.regression_conv

    def get_config(self):
        config = super().get_config()
        for name in ("representation", "quality", "grid", "level_scales"):
            config.pop(name)
        return {
            **config,
            "reg_max": self.reg_max,
            "quality_topk": self.quality_topk,
            "quality_channels": self.quality_channels,
            "quality_statistics": self.quality_statistics,
        }
