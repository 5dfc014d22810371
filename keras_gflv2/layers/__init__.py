"""Layers between the backbone and the boxes."""

from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.deformable_conv import DeformableConv2D
from keras_gflv2.layers.feature_pyramid import FeaturePyramid
from keras_gflv2.layers.gfl_head import GFLHead
from keras_gflv2.layers.integral import Integral
from keras_gflv2.layers.pad_to_multiple import PadToMultiple
from keras_gflv2.layers.quality_predictor import DistributionGuidedQualityPredictor

__all__ = [
    "Conv2D",
    "DeformableConv2D",
    "DistributionGuidedQualityPredictor",
    "FeaturePyramid",
    "GFLHead",
    "Integral",
    "PadToMultiple",
]
