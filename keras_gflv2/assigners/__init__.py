"""Which locations answer for which boxes in training."""

from keras_gflv2.assigners.assigner import Assigner
from keras_gflv2.assigners.atss import ATSSAssigner
from keras_gflv2.assigners.fcos import FCOSAssigner
from keras_gflv2.assigners.fovea import FoveaAssigner
from keras_gflv2.assigners.max_iou import MaxIoUAssigner
from keras_gflv2.assigners.point_assigner import PointAssigner

__all__ = [
    "ATSSAssigner",
    "Assigner",
    "FCOSAssigner",
    "FoveaAssigner",
    "MaxIoUAssigner",
    "PointAssigner",
]
