"""How good a detector is, and how well it knows that: functions and Keras callbacks."""

from keras_gflv2.evaluation.calibration import calibrate
from keras_gflv2.evaluation.coco import coco_results, evaluate_coco
from keras_gflv2.evaluation.coco_metrics import COCOMetrics
from keras_gflv2.evaluation.quality import (
    PearsonCorrelation,
    QualityCorrelation,
    quality_correlation,
)
from keras_gflv2.evaluation.uncertainty import uncertainty

__all__ = [
    "COCOMetrics",
    "PearsonCorrelation",
    "QualityCorrelation",
    "calibrate",
    "coco_results",
    "evaluate_coco",
    "quality_correlation",
    "uncertainty",
]
