"""How a detector tells the quality of its boxes."""

from keras_gflv2.layers.quality.branch import BranchQuality
from keras_gflv2.layers.quality.composed import ComposedQuality
from keras_gflv2.layers.quality.distribution_guided import DistributionGuidedQualityPredictor
from keras_gflv2.layers.quality.quality import NoQuality, Quality
from keras_gflv2.layers.quality.sampled import SampledQuality
from keras_gflv2.layers.quality.samplers import (
    BorderExtremeSampler,
    BorderMiddleSampler,
    BorderSampler,
    DeformableSampler,
    PointSampler,
    RegionSampler,
    Sampler,
    StarSampler,
)

__all__ = [
    "BorderExtremeSampler",
    "BorderMiddleSampler",
    "BorderSampler",
    "BranchQuality",
    "ComposedQuality",
    "DeformableSampler",
    "DistributionGuidedQualityPredictor",
    "NoQuality",
    "PointSampler",
    "Quality",
    "RegionSampler",
    "SampledQuality",
    "Sampler",
    "StarSampler",
]
