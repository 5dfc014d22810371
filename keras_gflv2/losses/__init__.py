"""Losses of the joint score, of the box and of its distributions."""

from keras_gflv2.losses.distribution_focal import DistributionFocalLoss
from keras_gflv2.losses.giou import GIoULoss
from keras_gflv2.losses.quality_focal import QualityFocalLoss

__all__ = ["DistributionFocalLoss", "GIoULoss", "QualityFocalLoss"]
