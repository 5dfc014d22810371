"""Encoded pictures to pixels inside a TensorFlow graph, where a bad one does not fail the batch.

The arithmetic is that of `keras_gflv2.images`, which `GFLV2.detect` uses.
"""

import tensorflow as tf

from keras_gflv2.boxes import ceil_divide

OK, NOT_DECODABLE, TOO_LARGE = 0, 1, 2
EXIF_ORIENTATION_TAG = 0x0112
# EXIF stands before the pixels: it is looked for in so many bytes.
HEADER_BYTES = 1 << 17


def load_pictures(encoded, image_size, multiple, max_pixels):
    """Decodes, turns upright and resizes a batch of files of different sizes.

    Args:
        encoded: (B,) string tensor, each the bytes of a JPEG, PNG, GIF (first frame), BMP or, where
            TensorFlow can, WebP file.
        image_size: (short side, longest long side) in pixels to resize to, ratio kept.
        multiple: canvases are multiples of it.
        max_pixels: larger pictures are not decoded.

    Returns:
        Dictionary of "images" (B, H, W, 3) float32, each in the upper left corner; "original" and
        "resized" (B, 2) int32 heights and widths; "canvas" (B, 2): `resized` rounded up to the
        multiple; "status" (B,) int32. Pictures whose status is not OK have size 1 x 1.
    """
    count = tf.shape(encoded, out_type=tf.int64)[0]

    def load(index, content):
        pixels, status = _decode(content, max_pixels)
        original = tf.shape(pixels)[:2]
        resized = resize_shape(original, image_size)
        image = tf.image.resize(pixels, resized)
        # Resized values are rounded to whole numbers as cv2 rounds them.
        image = tf.floor(image + 0.5)
        canvas = ceil_divide(resized, multiple) * multiple
        return index, image, original, resized, canvas, status

    # An element that cannot be decoded drops out of the dataset: the only way for a graph to
    # survive an operation that fails.
    files = tf.data.Dataset.from_tensor_slices((tf.range(count), encoded))
    loaded = files.map(load, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    one = tf.ones(2, tf.int32)
    nothing = (count, tf.zeros([1, 1, 3]), one, one, one * multiple, NOT_DECODABLE)
    loaded = loaded.concatenate(tf.data.Dataset.from_tensors(nothing))
    shapes = ([], [None, None, 3], [2], [2], [2], [])
    batch = loaded.padded_batch(count + 1, padded_shapes=shapes).get_single_element()
    index, images, original, resized, canvas, status = batch

    # Row of each file in the batch; those that dropped out point to the last row.
    last = tf.shape(index)[0] - 1
    rows = tf.tensor_scatter_nd_update(
        tf.fill([tf.cast(count, tf.int32) + 1], last), index[:, None], tf.range(last + 1)
    )[:-1]
    names = ("images", "original", "resized", "canvas", "status")
    values = (images, original, resized, canvas, status)
    return {name: tf.gather(value, rows) for name, value in zip(names, values)}


def resize_shape(size, image_size):
    """`keras_gflv2.images.resize_shape` of a (2,) int32 tensor."""
    size = tf.cast(size, tf.float64)
    short_side, longest = (tf.constant(n, tf.float64) for n in image_size)
    scale = tf.minimum(longest / tf.reduce_max(size), short_side / tf.reduce_min(size))
    return tf.maximum(tf.cast(size * scale + 0.5, tf.int32), 1)


def _decode(content, max_pixels):
    """uint8 pixels (H, W, 3), upright, and the status of one file."""
    header = _Header(content)
    is_jpeg = header.starts_with(b"\xff\xd8\xff")

    def decode():
        return tf.cond(is_jpeg, jpeg, other), OK

    def jpeg():
        # The accurate DCT is that of every other decoder.
        pixels = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")
        return _upright(pixels, header.orientation())

    def other():
        return tf.io.decode_image(content, channels=3, expand_animations=False)

    def refuse():
        return tf.zeros([1, 1, 3], tf.uint8), TOO_LARGE

    size = tf.cond(
        is_jpeg,
        lambda: tf.cast(tf.image.extract_jpeg_shape(content)[:2], tf.int64),
        header.stored_size,
    )
    pixels, status = tf.cond(tf.reduce_prod(size) > max_pixels, refuse, decode)
    return tf.ensure_shape(pixels, [None, None, 3]), status


def _upright(pixels, orientation):
    """Undoes an EXIF orientation of 1..8 (TIFF 6.0, Orientation)."""
    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)

    def one_of(*values):
        return tf.reduce_any(orientation == tf.constant(values))

    pixels = tf.cond(one_of(2, 3, 6, 7), lambda: pixels[:, ::-1], lambda: pixels)
    return tf.cond(one_of(3, 4, 7, 8), lambda: pixels[::-1], lambda: pixels)


class _Header:
    """The first bytes of a file; reading past the end gives zeros."""

    def __init__(self, content):
        self.content = content
        start = tf.strings.substr(content, 0, HEADER_BYTES)
        raw = tf.io.decode_raw(start, tf.uint8)
        self.bytes = tf.concat([tf.cast(raw, tf.int32), tf.zeros([1], tf.int32)], 0)
        self.length = tf.shape(raw)[0]

    def number(self, position, count, little):
        """Unsigned number of `count` bytes, from `position` on."""
        offsets = tf.range(count)
        index = tf.clip_by_value(position + offsets, 0, self.length)
        powers = tf.where(little, offsets, count - 1 - offsets)
        weights = tf.bitwise.left_shift(
            tf.ones_like(powers, tf.int64), tf.cast(powers * 8, "int64")
        )
        return tf.reduce_sum(tf.cast(tf.gather(self.bytes, index), tf.int64) * weights)

    def starts_with(self, signature, position=0):
        return tf.strings.substr(self.content, position, len(signature)) == signature

    def stored_size(self):
        """Height and width by the header of a file that is not a JPEG; 0 if it is not known."""
        number = self.number
        png = [number(20, 4, False), number(16, 4, False)]
        gif = [number(8, 2, True), number(6, 2, True)]
        bmp = [_absolute(number(22, 4, True)), number(18, 4, True)]
        # WebP: extended, lossy, lossless.
        extended = [number(27, 3, True) + 1, number(24, 3, True) + 1]
        lossy = [number(28, 2, True) % 16384, number(26, 2, True) % 16384]
        bits = number(21, 4, True)
        lossless = [bits // 16384 % 16384 + 1, bits % 16384 + 1]
        size = tf.zeros(2, tf.int64)
        for signature, position, known in (
            (b"\x89PNG", 0, png),
            (b"GIF8", 0, gif),
            (b"BM", 0, bmp),
            (b"VP8X", 12, extended),
            (b"VP8 ", 12, lossy),
            (b"VP8L", 12, lossless),
        ):
            size = tf.where(self.starts_with(signature, position), tf.stack(known), size)
        return size

    def orientation(self):
        """EXIF orientation of a JPEG, 1..8; 1 if there is none."""

        def is_exif(position):
            marker = self.number(position, 2, False) == 0xFFE1
            return marker & (self.number(position + 4, 4, False) == 0x45786966)  # "Exif"

        def goes_on(position):
            marker = self.number(position, 2, False)
            in_header = (marker // 256 == 0xFF) & (marker != 0xFFDA)  # until the scan starts
            return in_header & ~is_exif(position) & (position < self.length)

        def next_segment(position):
            length = tf.cast(self.number(position + 2, 2, False), tf.int32)
            return (position + 2 + tf.maximum(length, 2),)

        (position,) = tf.while_loop(goes_on, next_segment, (tf.constant(2),))
        start = position + 10
        little = self.number(start, 1, False) == 0x49
        directory = self.number(start + 4, 4, little)
        directory = start + tf.cast(tf.minimum(directory, HEADER_BYTES), tf.int32)
        count = tf.cast(tf.minimum(self.number(directory, 2, little), 512), tf.int32)
        entries = directory + 2 + 12 * tf.range(count)

        def find(found, entry):
            is_tag = self.number(entry, 2, little) == EXIF_ORIENTATION_TAG
            value = tf.cast(self.number(entry + 8, 2, little), tf.int32)
            return tf.where(is_tag, value, found)

        value = tf.foldl(find, entries, initializer=tf.constant(1))
        return tf.where(is_exif(position) & (value >= 1) & (value <= 8), value, 1)


def _absolute(number):
    """A BMP's height is negative when its rows run from top to bottom."""
    return tf.where(number >= 2**31, 2**32 - number, number)
