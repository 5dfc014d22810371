"""(g) of Table 3: points that learn where to go."""

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.quality.samplers.sampler import Sampler
from keras_gflv2.layers.quality.samplers.star import StarSampler
from keras_gflv2.parts import deserialize, serialize


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DeformableSampler(Sampler, CompositeLayer):
    """Points that move from regular ones by learned offsets (GFLV2, Table 3 (g)).

    A convolution of the box tower's map predicts for every point how far it moves, in cells of the
    map (Deformable Convolutional Networks, section 2.1). It starts at zero: the sampler starts out
    as the regular one.

    Args:
        base: the `Sampler` of the regular points. Default `StarSampler()`.
        anchors_per_cell: as the detector's `AnchorGrid` has them.

    Raises:
        ValueError: the grid has another number of anchors per cell.
    """

    def __init__(
        self,
        base: Sampler | None = None,
        anchors_per_cell: int = 1,
        dtype: DType = "float32",
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.base = base or StarSampler()
        self.anchors_per_cell = anchors_per_cell
        groups, count = self.shape
        self.offset_conv = Conv2D(
            anchors_per_cell * groups * count * 2,
            3,
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="offset_conv",
        )
        self.remember_layers()

    @property
    def shape(self):
        return self.base.shape

    @property
    def pooling(self):
        return self.base.pooling

    def build_from(self, channels, anchors_per_cell):
        if anchors_per_cell != self.anchors_per_cell:
            raise ValueError(
                f"`anchors_per_cell` is {self.anchors_per_cell}, but the grid has "
                f"{anchors_per_cell}."
            )
        self.base.build_from(channels, anchors_per_cell)
        self.offset_conv.build((None, None, None, channels))
        self.built = True

    def points(self, level):
        offsets = ops.cast(self.offset_conv(level.box), "float32")
        offsets = ops.reshape(offsets, (ops.shape(offsets)[0], -1, *self.shape, 2))
        return self.base.points(level) + offsets

    def get_config(self):
        return {
            **super().get_config(),
            "base": serialize("base", self.base),
            "anchors_per_cell": self.anchors_per_cell,
        }

    @classmethod
    def from_config(cls, config):
        return super().from_config({**config, "base": deserialize("base", config["base"])})
