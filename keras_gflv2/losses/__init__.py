"""Losses of the joint score, of the box and of its distributions, and what puts them together."""

from keras_gflv2.losses.criterion import Criterion
from keras_gflv2.losses.distribution_focal import DistributionFocalLoss
from keras_gflv2.losses.giou import GIoULoss
from keras_gflv2.losses.tmp_losses import FocalLoss, IoULoss, L1Loss, SmoothL1Loss
from keras_gflv2.losses.quality_focal import QualityFocalLoss
from keras_gflv2.losses.terms import BoxTerm, ClassTerm, DistributionTerm, QualityTerm, Term

__all__ = [
    "BoxTerm",
    "ClassTerm",
    "Criterion",
    "DistributionFocalLoss",
    "DistributionTerm",
    "GIoULoss",
    "QualityFocalLoss",
    "QualityTerm",
    "Term",
]
