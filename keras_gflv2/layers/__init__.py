"""Layers between the backbone and the boxes."""

from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.deformable_conv import DeformableConv2D
from keras_gflv2.layers.dense_head import DenseHead
from keras_gflv2.layers.feature_pyramid import FeaturePyramid
from keras_gflv2.layers.gfl_head import GFLHead
from keras_gflv2.layers.pad_to_multiple import PadToMultiple
from keras_gflv2.layers.quality import (
    BranchQuality,
    DistributionGuidedQualityPredictor,
    NoQuality,
    Quality,
)
from keras_gflv2.representations.integral import Integral

__all__ = [
    "BranchQuality",
    "Conv2D",
    "DeformableConv2D",
    "DenseHead",
    "DistributionGuidedQualityPredictor",
    "FeaturePyramid",
    "GFLHead",
    "Integral",
    "NoQuality",
    "PadToMultiple",
    "Quality",
]
