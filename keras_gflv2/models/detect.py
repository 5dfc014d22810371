"""Images of any sizes in, their detections in their own pixels out."""

import numpy as np
from keras import ops

from keras_gflv2.contract import class_names_of
from keras_gflv2.grid import padded
from keras_gflv2.images import read_image, resize_image, resize_shape


def detect(model, predict, images, score_threshold, image_size, batch_size):
    """What `DenseDetector.detect` does; see there.

    Each image is resized as in training and padded to the smallest canvas that the network takes.
    Images with one canvas run together.

    Args:
        model: the detector: its sizes, names and box format.
        predict: function that finds the detections of a batch.
        images, score_threshold, image_size, batch_size: as in `DenseDetector.detect`.
    """
    if not isinstance(images, (list, tuple)):
        images = [images]
    image_size = image_size or model.image_size
    results = [None] * len(images)
    waiting = {}  # canvas -> (index, original size, resized image): no original is kept

    def run(canvas):
        members = waiting.pop(canvas)
        indices, originals, resized = zip(*members)
        found = predict(_canvas_batch(resized, canvas, model.padding_color))
        for row, index in enumerate(indices):
            one = {k: np.array(v[row]) for k, v in found.items()}
            results[index] = _to_original(
                model, one, originals[row], resized[row].shape[:2], canvas, score_threshold
            )

    for index, source in enumerate(images):
        image = read_image(source)
        resized = resize_image(image, resize_shape(image.shape[:2], image_size))
        canvas = tuple(padded(side) for side in resized.shape[:2])
        waiting.setdefault(canvas, []).append((index, image.shape[:2], resized))
        if len(waiting[canvas]) >= batch_size:
            run(canvas)
    for canvas in sorted(waiting):
        run(canvas)
    return results


def _canvas_batch(images, canvas, color):
    batch = np.tile(np.float32(color), (len(images), *canvas, 1))
    for row, image in enumerate(images):
        batch[row, : image.shape[0], : image.shape[1]] = image
    return {"images": batch, "image_sizes": np.array([i.shape[:2] for i in images], "int32")}


def _to_original(model, found, original, resized, canvas, score_threshold):
    """One row of `predict`'s answer -> detections in the pixels of the original image."""
    keep = (found["classes"] >= 0) & (found["confidence"] > score_threshold)
    boxes = ops.convert_to_numpy(model.convert_boxes(found["boxes"][keep], "xyxy", *canvas))
    scale = np.float32([original[1] / resized[1], original[0] / resized[0]] * 2)
    classes = found["classes"][keep].astype("int32")
    names = class_names_of(model)
    result = {
        "boxes": boxes.reshape(-1, 4).astype("float32") * scale,
        "classes": classes,
        "confidence": found["confidence"][keep],
        "class_names": [names[c] for c in classes],
    }
    if "uncertainties" in found:
        result["uncertainties"] = found["uncertainties"][keep] * scale
    return result
