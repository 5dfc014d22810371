"""Files to pixels in a TensorFlow graph: those that `keras_gflv2.images.read_image` gives.

Each kind of file has the options with which TensorFlow's decoder equals PIL's. Damaged files make
TensorFlow's operations fail; who calls `decode` lets such an element drop out of a dataset.
"""

import tensorflow as tf

from keras_gflv2.serving.file_bytes import Bytes
from keras_gflv2.serving.headers import bmp_colors, gif_palette_bytes

# Says that the inks of a JPEG are stored inverted, as PIL takes all of them.
ADOBE_MARKER = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"


@tf.function(
    input_signature=[tf.TensorSpec((), tf.string), tf.TensorSpec(7, tf.int64)], autograph=False
)
def decode(content, header):
    """uint8 pixels (H, W, 3), upright, of one file.

    Args:
        content: scalar string.
        header: what `headers.read_header` says of it, with the status OK.
    """
    _, kind, height, width, orientation, first, second = tf.unstack(header, 7)
    size = tf.stack([height, width])
    decoders = [
        lambda: _jpeg(content, size, first),
        lambda: _png(content),
        lambda: _gif(content, first, second),
        lambda: _bmp(content, size, first, second),
        lambda: _webp(content, first, second),
    ]
    pixels = tf.switch_case(tf.cast(kind, tf.int32), decoders)
    return _upright(_of_size(pixels, tf.shape(pixels, tf.int64)[:2], size), orientation)


def _of_size(value, found, declared):
    """The value, if the size is what the header said: a guard of the limit of pixels."""
    check = tf.debugging.Assert(tf.reduce_all(found == declared), [found, declared])
    with tf.control_dependencies([check]):
        return tf.identity(value)


def _jpeg(content, size, plain_cmyk):
    content = _of_size(content, tf.image.extract_jpeg_shape(content, tf.int64)[:2], size)
    marked = tf.strings.join([b"\xff\xd8" + ADOBE_MARKER, tf.strings.substr(content, 2, -1)])
    # The accurate DCT is that of every other decoder.
    return tf.io.decode_jpeg(
        tf.where(plain_cmyk == 1, marked, content), channels=3, dct_method="INTEGER_ACCURATE"
    )


def _png(content):
    def deep_grey():
        pixels = tf.cast(tf.io.decode_png(content, channels=1, dtype=tf.uint16), tf.int32)
        # To the nearest: 65535 becomes 255. Of 16-bit colors both decoders take the upper half.
        return tf.cast(tf.repeat((pixels + 128) // 257, 3, axis=-1), tf.uint8)

    is_deep_grey = tf.strings.substr(content, 24, 2) == b"\x10\0"  # bits and type of color
    return tf.cond(is_deep_grey, deep_grey, lambda: tf.io.decode_png(content, channels=3))


def _gif(content, frame, end):
    """The first frame without its extensions, which say what is transparent: all has a color."""
    flags = Bytes(tf.strings.substr(content, 10, 1)).at(0)
    palette_end = 13 + gif_palette_bytes(flags)
    parts = [(0, palette_end), (frame, end - frame)]
    parts = [tf.strings.substr(content, tf.cast(start, tf.int64), count) for start, count in parts]
    return tf.io.decode_gif(tf.strings.join([*parts, b";"]))[0]


def _bmp(content, size, start, bits):
    file = Bytes(content)
    height, width = tf.unstack(size)
    stride = (width * bits + 31) // 32 * 4
    rows = tf.reshape(file.values[start : start + height * stride], [height, stride])
    rows_run_down = file.number(22, 4, True) >= 2**31
    rows = tf.cond(rows_run_down, lambda: rows, lambda: rows[::-1])

    def by_palette():
        colors = bmp_colors(file)
        palette = 14 + file.number(14, 4, True)
        palette = tf.reshape(file.values[palette : palette + 4 * colors], [colors, 4])
        # Several indices share a byte, the first in its highest bits.
        shifts = 8 - bits * tf.range(1, 8 // bits + 1)
        mask = tf.bitwise.left_shift(tf.constant(1, tf.int64), bits) - 1
        indices = tf.bitwise.right_shift(rows[..., None], tf.cast(shifts, tf.uint8))
        indices = tf.bitwise.bitwise_and(indices, tf.cast(mask, tf.uint8))
        indices = tf.reshape(indices, [height, -1])[:, :width]
        return tf.gather(palette, tf.cast(indices, tf.int32))

    def direct():
        channels = bits // 8
        return tf.reshape(rows[:, : width * channels], [height, width, channels])

    pixels = tf.cond(bits <= 8, by_palette, direct)
    return pixels[..., 2::-1]  # blue comes first


def _webp(content, frame, end):
    """TensorFlow's decoder breaks on animations: the first frame becomes a file of its own."""

    def first_frame():
        # Of a frame: its place, its width and height as an extended file has them, its time.
        extent = tf.strings.substr(content, frame + 6, 6)
        data = tf.strings.substr(content, frame + 16, end - frame - 16)
        parts = [b"VP8X\x0a\0\0\0\x10\0\0\0", extent, data]  # with transparency
        body = tf.strings.join([b"WEBP", *parts])
        length = tf.strings.length(body) // [1, 1 << 8, 1 << 16, 1 << 24] % 256
        every_byte = tf.constant([bytes([value]) for value in range(256)])
        length = tf.strings.reduce_join(tf.gather(every_byte, length))
        return tf.strings.join([b"RIFF", length, body])

    content = tf.cond(frame > 0, first_frame, lambda: content)
    # With as many channels as the file has: it fails if asked for others.
    pixels = tf.io.decode_image(content, expand_animations=False)
    return tf.ensure_shape(pixels, [None, None, None])[..., :3]


def _upright(pixels, orientation):
    """Undoes an orientation of 1..8 (TIFF 6.0, Orientation)."""
    pixels = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)

    def one_of(*values):
        return tf.reduce_any(orientation == tf.constant(values, tf.int64))

    pixels = tf.cond(one_of(2, 3, 6, 7), lambda: pixels[:, ::-1], lambda: pixels)
    pixels = tf.cond(one_of(3, 4, 7, 8), lambda: pixels[::-1], lambda: pixels)
    return tf.ensure_shape(pixels, [None, None, 3])
