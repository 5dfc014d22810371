"""From scores and boxes of every location to the final detections."""

from keras_gflv2.postprocessing.decoder import PredictionDecoder
from keras_gflv2.postprocessing.nms import non_max_suppression

__all__ = ["PredictionDecoder", "non_max_suppression"]
