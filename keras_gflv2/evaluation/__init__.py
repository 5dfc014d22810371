"""How good a detector is: COCO average precision, as a function and as a Keras callback."""

from keras_gflv2.evaluation.coco import coco_results, evaluate_coco
from keras_gflv2.evaluation.coco_metrics import COCOMetrics

__all__ = ["COCOMetrics", "coco_results", "evaluate_coco"]
