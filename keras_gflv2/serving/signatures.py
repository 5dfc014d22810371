"""The functions that an exported detector offers, as TensorFlow graphs."""

import json

import tensorflow as tf

from keras_gflv2.boxes import convert_sides
from keras_gflv2.contract import class_names_of
from keras_gflv2.grid import padded
from keras_gflv2.serving import headers, pictures

STATUS = {
    headers.OK: "ok",
    headers.NOT_DECODABLE: "not an image that can be decoded",
    headers.TOO_LARGE: "more pixels than this server accepts",
    headers.UNSUPPORTED: "an image of a kind that this server cannot decode exactly; convert it to "
    "an ordinary PNG or JPEG",
    headers.TOO_MANY: "more images or pixels than this server accepts in one request; send it in "
    "another",
}
# The canvases of a request run together up to as many pixels as so many of the model's own.
CHUNK = 2


class Signatures:
    """Functions of a detector that a SavedModel can hold.

    Args:
        model: a dense detector on the backend TensorFlow.
        max_pixels: larger files are not decoded.
    """

    def __init__(self, model, max_pixels):
        self.model = model
        self.max_pixels = max_pixels
        self.max_detections = model.prediction_decoder.max_detections
        self.class_names = tf.constant([*class_names_of(model), ""])  # the last is that of padding

    def endpoints(self):
        """Triples of name, function and input signature."""
        pixels = [tf.TensorSpec((None, None, None, 3), tf.uint8, "images")]
        floats = [tf.TensorSpec((None, None, None, 3), tf.float32, "images")]
        files = [tf.TensorSpec((None,), tf.string, "image_bytes")]
        options = [
            tf.TensorSpec((None,), tf.float32, name)
            for name in ("score_threshold", "nms_iou_threshold")
        ]
        calibration = [("calibration", self.calibration, files)] if self.model.calibration else []
        return [
            ("serving_images", self.images, pixels),
            ("serving_images_float", self.images, floats),
            ("serving_bytes", self.files, files),
            ("serving_bytes_options", self.files_with_options, files + options),
            *calibration,
            ("raw", self.raw, floats),
        ]

    def calibration(self, image_bytes):
        """The same for each row, so that a request has the form of all others."""
        table = self.model.calibration.get_config()
        shape = tf.shape(image_bytes)
        return {
            "calibration": tf.fill(shape, json.dumps(table)),
            "num_matched": tf.fill(shape, table["num_matched"]),
        }

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
        files = pictures.inspect_files(image_bytes, self.model.image_size, self.max_pixels)
        found, status = self._in_chunks(image_bytes, files, options)
        scale = files["original"] / files["resized"]  # (B, 2)
        scale = tf.cast(tf.gather(scale, [1, 0, 1, 0], axis=1), tf.float32)[:, None]
        present = found["classes"][..., None] >= 0
        classes = tf.where(found["classes"] < 0, self.model.num_classes, found["classes"])
        sides = [name for name in ("boxes", "uncertainties") if name in found]
        return {
            **found,
            **{name: tf.where(present, found[name] * scale, -1.0) for name in sides},
            "class_names": tf.gather(self.class_names, classes),
            "status": tf.gather(tf.constant([STATUS[code] for code in sorted(STATUS)]), status),
        }

    def _in_chunks(self, image_bytes, files, options):
        """Detections (xyxy and uncertainties in pixels of the resized images) and statuses.

        Those with one canvas run together, each canvas on its own: more padding than a picture
        needs would change the statistics of the group normalization, and so its scores. A chunk is
        bounded in pixels, before and after resizing: so is the memory of a request.
        """
        count, length = tf.shape(files["status"])[0], self.max_detections
        results = {
            "boxes": tf.fill([count, length, 4], -1.0),
            "classes": tf.fill([count, length], -1),
            "confidence": tf.fill([count, length], -1.0),
            "num_detections": tf.fill([count], 0),
        }
        if self._has_uncertainties():
            results["uncertainties"] = tf.fill([count, length, 4], -1.0)

        def goes_on(waiting, status, results):
            del status, results
            return tf.reduce_any(waiting)

        def add_chunk(waiting, status, results):
            rows = self._chunk(waiting, files)
            canvas = files["canvas"][rows[0]]
            resized = tf.gather(files["resized"], rows)
            decoded, images = pictures.load_pictures(
                tf.gather(image_bytes, rows),
                tf.gather(files["headers"], rows),
                resized,
                canvas,
                self.model.padding_color,
            )
            waiting = _scatter(waiting, rows, tf.zeros_like(rows, tf.bool))
            status = _scatter(status, rows, tf.fill(tf.shape(rows), headers.NOT_DECODABLE))
            rows, resized = tf.gather(rows, decoded), tf.gather(resized, decoded)
            status = _scatter(status, rows, tf.fill(tf.shape(rows), headers.OK))

            def add():
                chosen = {name: tf.gather(value, rows) for name, value in options.items()}
                found = self._one_canvas(images, resized, canvas, chosen)
                return {name: _scatter(results[name], rows, found[name]) for name in results}

            return waiting, status, tf.cond(tf.size(rows) > 0, add, lambda: results)

        start = (files["status"] == headers.OK, files["status"], results)
        _, status, results = tf.while_loop(goes_on, add_chunk, start, parallel_iterations=1)
        return results, status

    def _chunk(self, waiting, files):
        """Rows of the pictures that run next, at least one."""
        canvas = files["canvas"][tf.argmax(tf.cast(waiting, tf.int32))]
        members = waiting & tf.reduce_all(files["canvas"] == canvas, axis=1)
        rows = tf.where(members)[:, 0]
        own = [padded(side) for side in self.model.image_size]
        rows = rows[: tf.maximum(CHUNK * own[0] * own[1] // tf.reduce_prod(canvas), 1)]
        pixels = tf.reduce_prod(tf.cast(tf.gather(files["original"], rows), tf.int64), axis=1)
        fits = (tf.cumsum(pixels) <= self.max_pixels) | (tf.range(tf.size(rows)) == 0)
        return tf.boolean_mask(rows, fits)

    def _one_canvas(self, images, resized, canvas, options):
        found = self.model.decode_predictions(
            self.model(images, training=False), images, resized, **options
        )
        to_pixels = self.model.bounding_box_format, "xyxy", canvas[0], canvas[1]
        found["boxes"] = self.model.convert_boxes(found["boxes"], *to_pixels[1:])
        if "uncertainties" in found:
            found["uncertainties"] = convert_sides(found["uncertainties"], *to_pixels)
        return found

    def _has_uncertainties(self):
        """Whether the detections have them, which takes distributions and a decoder that knows."""
        outputs = {n: tf.TensorSpec(o.shape, o.dtype) for n, o in self.model.output.items()}
        images = tf.TensorSpec((None, None, None, 3), tf.float32)
        decode = tf.function(self.model.decode_predictions, autograph=False)
        return "uncertainties" in decode.get_concrete_function(outputs, images).structured_outputs


def _scatter(values, rows, updates):
    return tf.tensor_scatter_nd_update(values, rows[:, None], updates)
