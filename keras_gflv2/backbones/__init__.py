"""Backbones: pixels in, feature maps {"P3", "P4", "P5"} out."""

from keras_gflv2.backbones.loading import as_pretrained, load_backbone
from keras_gflv2.backbones.normalized import NormalizedBackbone
from keras_gflv2.backbones.res2net import Res2Net
from keras_gflv2.backbones.resnet import ResNet

__all__ = ["NormalizedBackbone", "Res2Net", "ResNet", "as_pretrained", "load_backbone"]
