"""Logits of the four sides' distributions in, predicted localization quality out."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.quality.quality import Quality
from keras_gflv2.layers.quality.statistics import DistributionStatistics


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DistributionGuidedQualityPredictor(Quality, CompositeLayer):
    """DGQP (GFLV2, section 3.2): reads the localization quality off the shape of distributions.

    A sharp distribution has a large top value, a flat one does not: the statistics of the four
    sides are concatenated, F in Eq. 4, and `I = sigmoid(W2 relu(W1 F))` (Eq. 5) is the quality.

    Args:
        topk: how many of the largest probabilities of a side are used (k, Table 2).
        channels: width of the hidden layer (p, Table 2).
        statistics: which of "topk", "mean" and "var" are used (Table 1). Mean and variance are
            those of the `topk` values: the mean of all probabilities is always 1 / (n + 1).

    Input (..., 4, n + 1) logits, sides left, top, right, bottom; output (..., 1) in 0..1.

    Raises:
        ValueError: `statistics` is empty or names an unknown one; `topk` is not in 1..n + 1.

    >>> quality = keras_gflv2.layers.DistributionGuidedQualityPredictor()
    >>> quality(np.random.normal(size=(2, 100, 4, 17))).shape    # (2, 100, 1)
    """

    output_names = ("scores",)

    def __init__(
        self,
        topk: int = 4,
        channels: int = 64,
        statistics: Sequence[str] = ("topk", "mean"),
        dtype: DType = "float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self._describe = DistributionStatistics(topk, tuple(statistics))
        self.topk = topk
        self.channels = channels
        self.statistics = tuple(statistics)
        init = keras.initializers.RandomNormal(stddev=0.01)
        self.hidden = keras.layers.Dense(
            channels,
            activation="relu",
            kernel_initializer=init,
            dtype=self.dtype_policy,
            name="hidden",
        )
        self.quality = keras.layers.Dense(
            1,
            activation="sigmoid",
            kernel_initializer=init.clone(),
            dtype=self.dtype_policy,
            name="quality",
        )
        self.remember_layers()

    def build_from(self, channels, shape, anchors_per_cell):
        self._describe.check_shape(shape)
        if not self.built:  # a layer that was saved is built as it is loaded
            self.build((None, None, *shape))

    def combine(self, class_logits, raw, readings):
        # Eq. 3. The quality keeps its gradient: the score teaches the distributions too.
        return {"scores": ops.sigmoid(class_logits) * self(raw)}

    def quality_alone(self, outputs, raw):
        return self(raw)[..., 0]

    def build(self, input_shape):
        self._describe.check_shape(input_shape[-2:])
        self.hidden.build((None, self._describe.size))
        self.quality.build((None, self.channels))

    def call(self, logits):
        return self.quality(self.hidden(self._describe(logits)))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-2], 1)

    def get_config(self):
        return {
            **super().get_config(),
            "topk": self.topk,
            "channels": self.channels,
            "statistics": self.statistics,
        }
