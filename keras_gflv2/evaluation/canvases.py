"""Detections of an image that do not depend on the other images of its batch.

In: padded batches, one after the other. Out: the detections of each image, in pixels of the image
as it is in the batch. Padding takes part in group normalization, so how much of it an image has
changes its scores: as in `DenseDetector.detect`, every image gets as little as it can have.
"""

import keras
import numpy as np

from keras_gflv2.batches import to_xyxy
from keras_gflv2.grid import padded
from keras_gflv2.images import MEAN_COLOUR

# Pixels of images that wait for others of their canvas: 40 images of 800 x 1333.
WAITING_BYTES = 2**29


class CanvasQueue:
    """Runs a detector on images of equal canvases together, whichever batches they came in.

    An image of a batch with "image_sizes" is cut out and padded to its own multiple of 32 with
    `model.padding_color`. Images of the same canvas run together, as many as the largest batch so
    far has; a smaller rest is filled up, so that every canvas is one shape to compile. When waiting
    images take more than `WAITING_BYTES`, the canvas with the most of them runs before it is full.

    A batch without "image_sizes" runs as it is.

    Args:
        model: a dense detector, or anything with `predict_on_batch` and `bounding_box_format`.
    """

    def __init__(self, model):
        self._model = model
        self._padding_color = getattr(model, "padding_color", MEAN_COLOUR)
        self._batch_size = 0
        self._waiting = {}  # (height, width) of a canvas -> list of (position, pixels)
        self._waiting_bytes = 0
        self._found = []  # a dictionary for each image, None while it waits

    def add(self, images, image_sizes=None):
        """Takes one batch.

        Args:
            images: array (B, H, W, 3).
            image_sizes: integer array (B, 2), height and width of each image inside the batch, or
                None if that is not known.
        """
        first = len(self._found)
        self._batch_size = max(self._batch_size, len(images))
        self._found += [None] * len(images)
        if image_sizes is None:
            self._run({"images": images}, range(first, first + len(images)))
            return
        for position, (image, size) in enumerate(zip(images, image_sizes), start=first):
            height, width = (int(side) for side in size)
            canvas = (padded(height), padded(width))
            # A view of the batch would keep all of it in memory.
            pixels = image[:height, :width].astype("float32")
            self._waiting.setdefault(canvas, []).append((position, pixels))
            self._waiting_bytes += pixels.nbytes
            if len(self._waiting[canvas]) >= self._batch_size:
                self._run_canvas(canvas)
        while self._waiting_bytes > WAITING_BYTES:
            self._run_canvas(max(self._waiting, key=lambda canvas: len(self._waiting[canvas])))

    def finish(self):
        """Runs what still waits.

        Returns:
            List of a dictionary for each image in the order of `add`: "boxes" (n, 4) xyxy in pixels
            of the image in its batch, "classes" (n,) and "confidence" (n,).
        """
        for canvas in list(self._waiting):
            self._run_canvas(canvas)
        return self._found

    def _run_canvas(self, canvas):
        positions, images = zip(*self._waiting.pop(canvas))
        self._waiting_bytes -= sum(image.nbytes for image in images)
        batch = np.empty((len(images), *canvas, images[0].shape[-1]), "float32")
        batch[:] = self._padding_color
        for row, image in enumerate(images):
            batch[row, : image.shape[0], : image.shape[1]] = image
        sizes = np.array([image.shape[:2] for image in images], "int32")
        self._run({"images": batch, "image_sizes": sizes}, positions)

    def _run(self, inputs, positions):
        size, height, width = inputs["images"].shape[:3]
        # The last image is repeated where there are too few: nothing new to compile.
        fill = np.minimum(np.arange(self._batch_size), size - 1)
        inputs = {key: value[fill] for key, value in inputs.items()}
        found = self._model.predict_on_batch(inputs)
        found = {
            key: np.asarray(keras.ops.convert_to_numpy(found[key]))[:size]
            for key in ("boxes", "classes", "confidence")
        }
        found["boxes"] = to_xyxy(found["boxes"], self._model.bounding_box_format, height, width)
        for row, position in enumerate(positions):
            present = found["classes"][row] >= 0
            self._found[position] = {key: value[row][present] for key, value in found.items()}
