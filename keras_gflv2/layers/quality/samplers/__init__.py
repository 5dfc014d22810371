"""Where the features of a box are read, for `SampledQuality`: (a) to (g) of Table 3."""

from keras_gflv2.layers.quality.samplers.border import (
    BorderExtremeSampler,
    BorderMiddleSampler,
    BorderSampler,
)
from keras_gflv2.layers.quality.samplers.deformable import DeformableSampler
from keras_gflv2.layers.quality.samplers.point import PointSampler
from keras_gflv2.layers.quality.samplers.region import RegionSampler
from keras_gflv2.layers.quality.samplers.sampler import Sampler
from keras_gflv2.layers.quality.samplers.star import StarSampler

__all__ = [
    "BorderExtremeSampler",
    "BorderMiddleSampler",
    "BorderSampler",
    "DeformableSampler",
    "PointSampler",
    "RegionSampler",
    "Sampler",
    "StarSampler",
]
