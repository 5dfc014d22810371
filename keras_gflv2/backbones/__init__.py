"""Backbones: pixels in, feature maps {"P3", "P4", "P5"} out."""

from keras_gflv2.backbones.resnet import ResNet

__all__ = ["ResNet"]
