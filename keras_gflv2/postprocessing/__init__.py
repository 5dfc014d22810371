"""From scores and boxes of every location to the final detections."""

from keras_gflv2.postprocessing.decoder import PredictionDecoder
from keras_gflv2.postprocessing.nms import non_max_suppression
from keras_gflv2.postprocessing.side_calibration import SideCalibration
from keras_gflv2.postprocessing.test_time_augmentation import TestTimeAugmentation

__all__ = ["PredictionDecoder", "SideCalibration", "TestTimeAugmentation", "non_max_suppression"]
