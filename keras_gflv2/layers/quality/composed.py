"""Quality and class composed into one: statistics of the distributions help the class branch."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.quality.quality import Quality
from keras_gflv2.layers.quality.statistics import DistributionStatistics


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ComposedQuality(Quality, CompositeLayer):
    """The composed form (GFLV2, Table 4): the class branch predicts the joint score itself.

    The statistics of the four distributions (Eq. 4) go through a hidden layer, whose `channels`
    numbers per location are appended to the classification map, before the classification
    convolution. The score is trained as GFLV1's: quality focal loss, of its logits.

    Args:
        channels: how many channels are appended (d, Table 4).
        topk, statistics: see `DistributionGuidedQualityPredictor`.

    Outputs: "scores" (B, A, C) and "class_logits" (B, A, C), whose sigmoid the scores are.

    Raises:
        ValueError: `statistics` is empty or names an unknown one; `topk` is not in 1..n + 1.
    """

    def __init__(
        self,
        channels: int = 64,
        topk: int = 4,
        statistics: Sequence[str] = ("topk", "mean"),
        dtype: DType = "float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self._describe = DistributionStatistics(topk, tuple(statistics))
        self.channels = channels
        self.topk = topk
        self.statistics = tuple(statistics)
        self.hidden = keras.layers.Dense(
            channels,
            activation="relu",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=self.dtype_policy,
            name="hidden",
        )
        self.remember_layers()

    def build_from(self, channels, shape, anchors_per_cell):
        self._describe.check_shape(shape)
        self.hidden.build((None, self._describe.size))
        self.built = True

    def extra_channels(self, anchors_per_cell):
        return anchors_per_cell * self.channels

    def extend(self, level):
        # As in Eq. 3 the gradient is kept: the score teaches the distributions too.
        features = self.hidden(self._describe(level.raw))  # (B, A_l, d)
        height, width = ops.shape(level.classification)[1:3]
        added = self.extra_channels(level.grid.anchors_per_cell)
        features = ops.reshape(features, (-1, height, width, added))
        features = ops.cast(features, level.classification.dtype)
        return ops.concatenate([level.classification, features], axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "channels": self.channels,
            "topk": self.topk,
            "statistics": self.statistics,
        }
