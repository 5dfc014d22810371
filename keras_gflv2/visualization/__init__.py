"""Pictures of detections."""

from keras_gflv2.visualization.drawing import class_colour, draw_detections, draw_gallery
from keras_gflv2.visualization.validation import draw_validation

__all__ = ["DetectionImages", "class_colour", "draw_detections", "draw_gallery", "draw_validation"]


def __getattr__(name):
    if name == "DetectionImages":  # at first use: drawing alone needs no Keras
        from keras_gflv2.visualization.detection_images import DetectionImages

        return DetectionImages
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
