"""Detections of an image that do not depend on the other images of its batch.

In: images of any sizes, or padded batches, one after the other. Out: the detections of each image
in its own pixels. Padding takes part in group normalization, so how much of it an image has changes
its scores: every image gets as little as it can have, up to the next multiple of 32. Where the
network is compiled for each size, it may run in a larger canvas, of which layers see no more.
"""

import keras
import numpy as np

from keras_gflv2.batches import in_few_lengths, to_xyxy
from keras_gflv2.boxes import convert_sides
from keras_gflv2.grid import padded
from keras_gflv2.images import MEAN_COLOUR

# Pixels of images that wait for others of their canvas: 40 images of 800 x 1333.
WAITING_BYTES = 2**29
KEYS = ("boxes", "classes", "confidence", "uncertainties")


class CanvasQueue:
    """Runs a detector on images of equal canvases together, whichever batches they came in.

    An image is padded to its own multiple of 32 with `model.padding_color`: to its canvas. Images
    of the same canvas run together, `batch_size` of them. When waiting images take more than
    `WAITING_BYTES`, the canvas with the most of them runs before it is full. With a plan, images
    share larger canvases, and get the detections of their own.

    Args:
        model: a dense detector, or anything with `predict_on_batch` and `bounding_box_format`.
        batch_size: images of one canvas that run together. Default: as many as the largest batch
            so far has.
        predict: function that finds the detections of a batch. Default: `model.predict_on_batch`.
        plan: a `CanvasPlan` for images that share canvases. Default: each has its own.
        image_size: (short side, longest long side) of most images. Default: `model.image_size`.
    """

    def __init__(self, model, batch_size=1, predict=None, plan=None, image_size=None):
        self._model = model
        self._predict = predict or model.predict_on_batch
        self._padding_color = getattr(model, "padding_color", MEAN_COLOUR)
        self._batch_size = batch_size
        self._plan = plan
        self._image_size = image_size or getattr(model, "image_size", None)
        self._waiting = {}  # (height, width) of a canvas -> list of (position, pixels)
        self._waiting_bytes = 0
        self._found = []  # a dictionary for each image, None while it waits

    def add(self, image):
        """Takes one image, an array (H, W, 3) of its own."""
        canvas = own_canvas(image)
        if self._plan:
            canvas = self._plan.choose(canvas, self._image_size)
        self._waiting.setdefault(canvas, []).append((len(self._found), image))
        self._waiting_bytes += image.nbytes
        self._found.append(None)
        if len(self._waiting[canvas]) >= self._batch_size:
            self._run_canvas(canvas)
        while self._waiting_bytes > WAITING_BYTES:
            self._run_canvas(max(self._waiting, key=lambda canvas: len(self._waiting[canvas])))

    def add_batch(self, images, image_sizes=None):
        """Takes one batch, of which each image is cut out; without sizes it runs as it is.

        Args:
            images: array (B, H, W, 3).
            image_sizes: integer array (B, 2), height and width of each image inside the batch, or
                None if that is not known.
        """
        self._batch_size = max(self._batch_size, len(images))
        if image_sizes is None:
            positions = range(len(self._found), len(self._found) + len(images))
            self._found += [None] * len(images)
            self._run({"images": images}, positions, self._batch_size)
            return
        for image, (height, width) in zip(images, np.asarray(image_sizes, int)):
            # A view of the batch would keep all of it in memory.
            self.add(image[:height, :width].astype("float32"))

    def finish(self):
        """Runs what still waits.

        Returns:
            List of a dictionary for each image in the order of `add`: "boxes" (n, 4) xyxy in pixels
            of the image, "classes" (n,), "confidence" (n,) and, where the model tells them,
            "uncertainties" (n, 4) of the sides, in pixels, too.
        """
        for canvas in sorted(self._waiting):
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
        inputs, batch_size = {"images": batch, "image_sizes": sizes}, self._batch_size
        if self._plan:
            inputs["canvas_sizes"] = np.array([own_canvas(image) for image in images], "int32")
            if not self._plan.runs_together(canvas, len(images), batch_size):
                batch_size = 1
        self._run(inputs, positions, batch_size)

    def _run(self, inputs, positions, batch_size):
        height, width = inputs["images"].shape[1:3]
        found = in_few_lengths(self._model, self._predict, inputs, batch_size)
        found = {
            key: np.asarray(keras.ops.convert_to_numpy(found[key])) for key in KEYS if key in found
        }
        box_format = self._model.bounding_box_format
        found["boxes"] = to_xyxy(found["boxes"], box_format, height, width)
        if "uncertainties" in found:
            sides = convert_sides(found["uncertainties"], box_format, "xyxy", height, width)
            found["uncertainties"] = np.asarray(keras.ops.convert_to_numpy(sides))
        for row, position in enumerate(positions):
            present = found["classes"][row] >= 0
            self._found[position] = {key: value[row][present] for key, value in found.items()}


def own_canvas(image):
    """Height and width of the least canvas for an image (H, W, 3)."""
    return tuple(padded(side) for side in image.shape[:2])
