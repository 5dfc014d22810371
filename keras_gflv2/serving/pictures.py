"""A request's encoded pictures to batches of pixels in a TensorFlow graph.

In: files of different sizes. `inspect_files` reads their headers, so that what is too large is
refused before it is decoded, and pictures of one canvas can run together; `load_pictures` decodes
and resizes a chunk of them. One that cannot be decoded does not fail the others. The arithmetic is
that of `keras_gflv2.images`, which `DenseDetector.detect` uses.
"""

import tensorflow as tf

from keras_gflv2.grid import padded
from keras_gflv2.images import resize_shapes
from keras_gflv2.serving.decoding import decode
from keras_gflv2.serving.headers import OK, TOO_LARGE, TOO_MANY, read_header

# Of one request: what it may cost in time. Its memory is bounded by running it in chunks.
MAX_IMAGES = 256
MAX_TOTAL = 8


def inspect_files(encoded, image_size, max_pixels):
    """What the headers of the files say.

    Args:
        encoded: (B,) string tensor, each the bytes of a file.
        image_size: (short side, longest long side) in pixels to resize to, ratio kept.
        max_pixels: larger pictures are refused, and those after MAX_IMAGES or after MAX_TOTAL times
            as many pixels.

    Returns:
        Dictionary of "headers" (B, 7), see `headers.read_header`; "status" (B,); "original" and
        "resized" (B, 2) int32 heights and widths of the upright pictures; "canvas" (B, 2):
        `resized` padded as a detector pads it. Sizes are 1 where the status is not OK.
    """
    header = tf.TensorSpec(7, tf.int64)
    headers = tf.map_fn(read_header, encoded[:MAX_IMAGES], fn_output_signature=header)
    surplus = tf.size(encoded) - tf.shape(headers)[0]
    refused = tf.constant([[TOO_MANY, 0, 1, 1, 1, 0, 0]], tf.int64)
    headers = tf.concat([headers, tf.tile(refused, [surplus, 1])], 0)
    status, stored, orientation = headers[:, 0], headers[:, 2:4], headers[:, 4]
    pixels = stored[:, 0] * stored[:, 1]
    status = _refuse(status, pixels > max_pixels, TOO_LARGE)
    total = tf.cumsum(tf.where(status == OK, pixels, 0))
    status = _refuse(status, total > MAX_TOTAL * max_pixels, TOO_MANY)
    original = tf.where(orientation[:, None] >= 5, stored[:, ::-1], stored)
    original = tf.cast(tf.where(status[:, None] == OK, original, 1), tf.int32)
    resized = resize_shapes(original, image_size)
    return {
        "headers": headers,
        "status": tf.cast(status, tf.int32),
        "original": original,
        "resized": resized,
        "canvas": padded(resized),
    }


def _refuse(status, where, reason):
    return tf.where((status == OK) & where, tf.constant(reason, tf.int64), status)


def load_pictures(encoded, headers, resized, canvas, padding_color):
    """Decodes, turns upright and resizes pictures of one canvas.

    Args:
        encoded: (B,) string tensor.
        headers: (B, 7) of the files.
        resized: (B, 2) heights and widths.
        canvas: (2,) height and width of the batch.
        padding_color: RGB of what is beyond a picture.

    Returns:
        Which of the files could be decoded, indices (N,) int64, and their images (N, H, W, 3)
        float32, each in the upper left corner.
    """

    def load(index, content, header, size):
        image = tf.image.resize(decode(content, header), size)
        # Resized values are rounded to whole numbers as cv2 rounds them.
        image = tf.floor(image + 0.5)
        missing = canvas - size
        image = tf.pad(image, [[0, missing[0]], [0, missing[1]], [0, 0]])
        inside = (tf.range(canvas[0])[:, None] < size[0]) & (tf.range(canvas[1]) < size[1])
        return index, tf.where(inside[..., None], image, tf.constant(padding_color))

    indices = tf.range(tf.size(encoded, tf.int64))
    files = tf.data.Dataset.from_tensor_slices((indices, encoded, headers, resized))
    # An element that cannot be decoded drops out of the dataset: the only way for a graph to
    # survive an operation that fails.
    loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    nothing = (tf.constant(-1, tf.int64), tf.zeros([canvas[0], canvas[1], 3]))
    loaded = loaded.concatenate(tf.data.Dataset.from_tensors(nothing))
    indices, images = loaded.batch(tf.size(encoded, tf.int64) + 1).get_single_element()
    return indices[:-1], tf.ensure_shape(images, [None, None, None, 3])[:-1]
