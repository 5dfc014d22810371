"""The detectors."""

from keras_gflv2.models.atss import ATSS
from keras_gflv2.models.dense_detector import DenseDetector
from keras_gflv2.models.fcos import FCOS
from keras_gflv2.models.foveabox import FoveaBox
from keras_gflv2.models.gflv1 import GFLV1
from keras_gflv2.models.gflv2 import GFLV2
from keras_gflv2.models.retinanet import RetinaNet

__all__ = ["ATSS", "FCOS", "GFLV1", "GFLV2", "DenseDetector", "FoveaBox", "RetinaNet"]
