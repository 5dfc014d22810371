"""Images of any sizes in, their detections in their own pixels out."""

import numpy as np

from keras_gflv2.canvases import CanvasQueue
from keras_gflv2.contract import class_names_of
from keras_gflv2.images import read_image, resize_image, resize_shape
from keras_gflv2.intervals import check_coverage, conformal_quantile


def detect(model, predict, plan, images, score_threshold, image_size, batch_size, coverage):
    """What `DenseDetector.detect` does; see there.

    Args:
        model: the detector: its sizes, names and box format.
        predict: function that finds the detections of a batch.
        plan: a `CanvasPlan` for images that share canvases, or None.
        images, score_threshold, image_size, batch_size, coverage: as in `DenseDetector.detect`.
    """
    if not isinstance(images, (list, tuple)):
        images = [images]
    image_size = image_size or model.image_size
    queue = CanvasQueue(model, batch_size, predict, plan, image_size)
    scales = []
    for source in images:
        image = read_image(source)
        resized = resize_image(image, resize_shape(image.shape[:2], image_size))
        scale_y, scale_x = np.divide(image.shape[:2], resized.shape[:2])
        scales.append(np.float32([scale_x, scale_y, scale_x, scale_y]))
        queue.add(resized)
    return [
        _to_original(model, found, scale, score_threshold, coverage)
        for found, scale in zip(queue.finish(), scales)
    ]


def check_calibrated(model, coverage):
    """Raises ValueError if a detector cannot give intervals of a coverage."""
    check_coverage(coverage)
    if model.calibration is None:
        what = "keras-gflv2 calibrate, or evaluation.calibrate(model, dataset), makes one"
        if not model.representation.has_spread:
            what = "a detector without distributions cannot have one"
        raise ValueError(f"`coverage` needs a calibration of the uncertainties: {what}.")
    conformal_quantile(coverage, model.calibration.get_config())


def _to_original(model, found, scale, score_threshold, coverage):
    """Detections in the resized image -> those above the threshold, in the original's pixels."""
    found = {key: value[found["confidence"] > score_threshold] for key, value in found.items()}
    found["classes"] = found["classes"].astype("int32")
    names = class_names_of(model)
    for key in ("boxes", "uncertainties"):
        if key in found:
            found[key] = found[key].astype("float32") * scale
    if coverage is not None:
        if "uncertainties" not in found:
            raise ValueError("`coverage` needs a decoder that returns the locations of detections.")
        found["intervals"] = model.calibration.intervals(
            found["boxes"], found["uncertainties"], coverage
        )
    return {**found, "class_names": [names[c] for c in found["classes"]]}
