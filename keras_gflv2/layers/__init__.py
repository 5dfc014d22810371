"""Layers between the backbone and the boxes."""

from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.deformable_conv import DeformableConv2D
from keras_gflv2.layers.dense_head import DenseHead
from keras_gflv2.layers.feature_pyramid import FeaturePyramid
from keras_gflv2.layers.gfl_head import GFLHead
from keras_gflv2.layers.pad_to_multiple import PadToMultiple
from keras_gflv2.layers.quality import (
    BorderExtremeSampler,
    BorderMiddleSampler,
    BorderSampler,
    BranchQuality,
    ComposedQuality,
    DeformableSampler,
    DistributionGuidedQualityPredictor,
    NoQuality,
    PointSampler,
    Quality,
    RegionSampler,
    SampledQuality,
    Sampler,
    StarSampler,
)
from keras_gflv2.representations.integral import Integral

__all__ = [
    "BorderExtremeSampler",
    "BorderMiddleSampler",
    "BorderSampler",
    "BranchQuality",
    "ComposedQuality",
    "Conv2D",
    "DeformableConv2D",
    "DeformableSampler",
    "DenseHead",
    "DistributionGuidedQualityPredictor",
    "FeaturePyramid",
    "GFLHead",
    "Integral",
    "NoQuality",
    "PadToMultiple",
    "PointSampler",
    "Quality",
    "RegionSampler",
    "SampledQuality",
    "Sampler",
    "StarSampler",
]
