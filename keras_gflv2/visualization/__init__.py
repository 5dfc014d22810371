"""Pictures of detections, and in `figures` those of the paper."""

import importlib

from keras_gflv2.visualization.drawing import class_colour, draw_detections, draw_gallery
from keras_gflv2.visualization.validation import draw_validation

__all__ = [
    "DetectionImages",
    "class_colour",
    "draw_detections",
    "draw_gallery",
    "draw_validation",
    "figures",
]


def __getattr__(name):
    if name == "DetectionImages":  # at first use: drawing alone needs no Keras
        from keras_gflv2.visualization.detection_images import DetectionImages

        return DetectionImages
    if name == "figures":
        return importlib.import_module("keras_gflv2.visualization.figures")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
