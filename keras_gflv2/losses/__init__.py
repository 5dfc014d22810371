"""Losses of the joint score, of the box and of its distributions, and what puts them together."""

from keras_gflv2.losses.criterion import Criterion
from keras_gflv2.losses.distribution_focal import DistributionFocalLoss
from keras_gflv2.losses.focal import FocalLoss
from keras_gflv2.losses.giou import GIoULoss
from keras_gflv2.losses.iou import IoULoss
from keras_gflv2.losses.l1 import L1Loss
from keras_gflv2.losses.localization_distillation import LocalizationDistillationLoss
from keras_gflv2.losses.quality_focal import QualityFocalLoss
from keras_gflv2.losses.smooth_l1 import SmoothL1Loss
from keras_gflv2.losses.terms import (
    BoxTerm,
    ClassTerm,
    DistillationTerm,
    DistributionTerm,
    QualityTerm,
    Term,
)

__all__ = [
    "BoxTerm",
    "ClassTerm",
    "Criterion",
    "DistillationTerm",
    "DistributionFocalLoss",
    "DistributionTerm",
    "FocalLoss",
    "GIoULoss",
    "IoULoss",
    "L1Loss",
    "LocalizationDistillationLoss",
    "QualityFocalLoss",
    "QualityTerm",
    "SmoothL1Loss",
    "Term",
]
