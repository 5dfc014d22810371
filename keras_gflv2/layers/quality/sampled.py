"""Quality from convolutional features, read at points of the predicted box."""

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.bilinear import bilinear_samples
from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.own_canvas import only_own
from keras_gflv2.layers.quality.quality import Quality
from keras_gflv2.layers.quality.samplers.sampler import Sampler
from keras_gflv2.parts import deserialize, serialize

# More points per location are read one part after another: at 800 x 1344 pixels the finest level
# has 16,800 locations, and all bins of their regions with 64 channels are 210 MB per image.
POINTS_AT_ONCE = 9


@keras.saving.register_keras_serializable(package="keras_gflv2")
class SampledQuality(Quality, CompositeLayer):
    """The quality is read off convolutional features at points of the box (GFLV2, Table 3).

    What the distributions tell without it. A 1x1 convolution reduces the map of the box tower,
    which is read between its cells at the points that the sampler chooses for the box of every
    location; outside of the map it is zero. The features go through two layers:
    `I = sigmoid(W2 relu(W1 F))`. The joint score is J = C x I, as in Eq. 3.

    Reading and pooling are float32 under any dtype policy.

    Args:
        sampler: which points: a `Sampler`.
        channels: width to which the map is reduced before it is read.
        hidden: width of the hidden layer.

    Output: "scores" (B, A, C).

    >>> quality = keras_gflv2.layers.SampledQuality(keras_gflv2.layers.StarSampler())
    """

    output_names = ("scores",)

    def __init__(
        self,
        sampler: Sampler,
        channels: int = 64,
        hidden: int = 64,
        dtype: DType = "float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.sampler = sampler
        self.channels = channels
        self.hidden = hidden
        self.reduction = Conv2D(channels, 1, dtype=self.dtype_policy, name="reduction")
        self.hidden_layer = keras.layers.Dense(
            hidden, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.quality = keras.layers.Dense(
            1,
            activation="sigmoid",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=self.dtype_policy,
            name="quality",
        )
        self.remember_layers()

    def build_from(self, channels, shape, anchors_per_cell):
        self.sampler.build_from(channels, anchors_per_cell)
        self.reduction.build((None, None, None, channels))
        self.hidden_layer.build((None, self.sampler.shape[0] * self.channels))
        self.quality.build((None, self.hidden))
        self.built = True

    def read(self, level):
        features = only_own(ops.cast(self.reduction(level.box), "float32"))
        features = sample(features, self.sampler.points(level), self.sampler.pooling)
        groups = self.sampler.shape[0]
        shape = (ops.shape(features)[0], -1, groups * self.channels)
        features = ops.reshape(features, shape)  # (B, A_l, G * C)
        return ops.cast(self.quality(self.hidden_layer(features)), "float32")

    def combine(self, class_logits, raw, readings):
        return {"scores": ops.sigmoid(class_logits) * readings}  # Eq. 3

    def get_config(self):
        return {
            **super().get_config(),
            "sampler": serialize("sampler", self.sampler),
            "channels": self.channels,
            "hidden": self.hidden,
        }

    @classmethod
    def from_config(cls, config):
        return super().from_config({**config, "sampler": deserialize("sampler", config["sampler"])})


def sample(inputs, points, pooling="mean"):
    """Features of a map at points, pooled within groups.

    Args:
        inputs: (B, H, W, C) float32.
        points: (B, A, G, n, 2) x and y in cells.
        pooling: "mean" or "max", over the n points of a group.

    Returns:
        (B, A, G, C).
    """
    groups, count = points.shape[2:4]
    step = max(POINTS_AT_ONCE // groups, 1)
    parts = [points[:, :, :, start : start + step] for start in range(0, count, step)]
    pooled = None
    for part in parts:
        features = _read(inputs, part)  # (B, A, G, step, C)
        if pooling == "max":
            for i in range(part.shape[3]):
                pooled = _larger(pooled, features[:, :, :, i])
        else:
            features = ops.sum(features, axis=3) / count
            pooled = features if pooled is None else pooled + features
    return pooled


def _larger(some, others):
    """The larger of each two numbers.

    A choice, not `ops.max`: the gradient then needs but a bit per number. And XLA may compute the
    numbers anew for the gradient, with other rounding; JAX divides by how many equal the largest.
    """
    return others if some is None else ops.where(others > some, others, some)


def _read(inputs, points):
    """Features (B, A, G, n, C) of a map at points (B, A, G, n, 2)."""
    batch, (groups, count) = ops.shape(points)[0], points.shape[2:4]
    positions = ops.reshape(ops.flip(points, axis=-1), (batch, -1, 1, 1, groups * count, 2))
    features = bilinear_samples(inputs, positions)
    return ops.reshape(features, (batch, -1, groups, count, inputs.shape[-1]))
