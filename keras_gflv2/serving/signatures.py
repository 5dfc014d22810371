"""The functions that an exported detector offers, as TensorFlow graphs."""

import tensorflow as tf

from keras_gflv2.models.gflv2 import SIZE_MULTIPLE
from keras_gflv2.serving import pictures

STATUS = ("ok", "not an image that can be decoded", "more pixels than this server accepts")


class Signatures:
    """Functions of a detector that a SavedModel can hold.

    Args:
        model: a `GFLV2` on the backend TensorFlow.
        max_pixels: larger files are not decoded.
    """

    def __init__(self, model, max_pixels):
        self.model = model
        self.max_pixels = max_pixels
        self.max_detections = model.prediction_decoder.max_detections
        names = model.class_names or [str(i) for i in range(model.num_classes)]
        self.class_names = tf.constant([*names, ""])  # the last is that of padding

    def endpoints(self):
        """Triples of name, function and input signature."""
        pixels = [tf.TensorSpec((None, None, None, 3), tf.uint8, "images")]
        floats = [tf.TensorSpec((None, None, None, 3), tf.float32, "images")]
        files = [tf.TensorSpec((None,), tf.string, "image_bytes")]
        options = [
            tf.TensorSpec((None,), tf.float32, name)
            for name in ("score_threshold", "nms_iou_threshold")
        ]
        return [
            ("serving_images", self.images, pixels),
            ("serving_images_float", self.images, floats),
            ("serving_bytes", self.files, files),
            ("serving_bytes_options", self.files_with_options, files + options),
            ("raw", self.raw, floats),
        ]

    def raw(self, images):
        return self.model(images, training=False)

    def images(self, images):
        images = tf.cast(images, tf.float32)
        return self.model.decode_predictions(self.model(images, training=False), images)

    def files(self, image_bytes):
        return self._detect(image_bytes, {})

    def files_with_options(self, image_bytes, score_threshold, nms_iou_threshold):
        options = {"score_threshold": score_threshold, "nms_iou_threshold": nms_iou_threshold}
        return self._detect(image_bytes, options)

    def _detect(self, image_bytes, options):
        loaded = pictures.load_pictures(
            image_bytes, self.model.image_size, SIZE_MULTIPLE, self.max_pixels
        )
        found = self._by_canvas(loaded, options)
        scale = loaded["original"] / loaded["resized"]  # (B, 2)
        scale = tf.cast(tf.gather(scale, [1, 0, 1, 0], axis=1), tf.float32)[:, None]
        present = found["classes"][..., None] >= 0
        classes = tf.where(found["classes"] < 0, self.model.num_classes, found["classes"])
        return {
            **found,
            "boxes": tf.where(present, found["boxes"] * scale, -1.0),
            "class_names": tf.gather(self.class_names, classes),
            "status": tf.gather(tf.constant(STATUS), loaded["status"]),
        }

    def _by_canvas(self, loaded, options):
        """Detections (xyxy in pixels of the resized images) of the batch's pictures.

        Those with one canvas run together, each canvas on its own: more padding than a picture
        needs would change the statistics of the group normalisation, and so its scores.
        """
        count, length = tf.shape(loaded["status"])[0], self.max_detections
        results = {
            "boxes": tf.fill([count, length, 4], -1.0),
            "classes": tf.fill([count, length], -1),
            "confidence": tf.fill([count, length], -1.0),
            "num_detections": tf.fill([count], 0),
        }

        def goes_on(waiting, results):
            del results
            return tf.reduce_any(waiting)

        def add_canvas(waiting, results):
            canvas = loaded["canvas"][tf.argmax(tf.cast(waiting, tf.int32))]
            members = waiting & tf.reduce_all(loaded["canvas"] == canvas, axis=1)
            rows = tf.where(members)  # (M, 1)
            found = self._one_canvas(loaded, rows[:, 0], canvas, options)
            results = {
                name: tf.tensor_scatter_nd_update(value, rows, found[name])
                for name, value in results.items()
            }
            return waiting & ~members, results

        waiting = loaded["status"] == pictures.OK
        return tf.while_loop(goes_on, add_canvas, (waiting, results), parallel_iterations=1)[1]

    def _one_canvas(self, loaded, rows, canvas, options):
        resized = tf.gather(loaded["resized"], rows)
        # Cut or padded to the canvas: the batch is as large as its largest picture, unpadded.
        images = tf.gather(loaded["images"], rows)[:, : canvas[0], : canvas[1]]
        missing = canvas - tf.shape(images)[1:3]
        images = tf.pad(images, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
        inside = tf.logical_and(
            tf.range(canvas[0])[None, :, None] < resized[:, 0, None, None],
            tf.range(canvas[1])[None, None, :] < resized[:, 1, None, None],
        )
        images = tf.where(inside[..., None], images, tf.constant(self.model.padding_colour))
        images = tf.ensure_shape(images, [None, None, None, 3])
        found = self.model.decode_predictions(
            self.model(images, training=False),
            images,
            resized,
            **{name: tf.gather(value, rows) for name, value in options.items()},
        )
        boxes = self.model.convert_boxes(found["boxes"], "xyxy", canvas[0], canvas[1])
        return {**found, "boxes": boxes}
