"""What an image file says of itself, read in a TensorFlow graph before anything is decoded.

In: the bytes of a file. Out: its kind, its size, how to turn it upright, and whether the graph
decodes it to the pixels that `keras_gflv2.images.read_image` gives. Loops are bounded.
"""

import tensorflow as tf

from keras_gflv2.serving.file_bytes import Bytes, bit, int64, is_absent, one_of, where
from keras_gflv2.serving.orientation import (
    EXIF_SIGNATURE,
    UNREADABLE,
    XMP_KEYWORD,
    XMP_SIGNATURE,
    read_orientation,
)

# Status of a file.
OK, NOT_DECODABLE, TOO_LARGE, UNSUPPORTED, TOO_MANY = range(5)
# Kinds of files.
JPEG, PNG, GIF, BMP, WEBP, OTHER, NO_IMAGE = range(7)
# Segments, chunks or blocks of a file that are looked at.
MAX_STEPS = 1000
# Chunks of equal length, and blocks of full length, that are passed in one step.
MAX_RUN = 4096


# One function for all signatures of an export, which would each have a copy of it else.
@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def read_header(content):
    """Looks at one file, a scalar string.

    Returns:
        int64 (7,): status; kind; stored height and width; orientation 1..8; and two numbers for the
        decoder of that kind: of GIF and animated WebP where the first frame starts and ends, of
        BMP where the pixels start and their bits, of JPEG whether it is CMYK without Adobe's mark.
    """
    file = Bytes(content)
    readers = {JPEG: _jpeg, PNG: _png, GIF: _gif, BMP: _bmp, WEBP: _webp}
    branches = [lambda read=read: tf.stack(int64(read(file))) for read in readers.values()]
    branches.append(lambda: tf.constant([UNSUPPORTED, 0, 0, 1, 0, 0], tf.int64))
    branches.append(lambda: tf.constant([NOT_DECODABLE, 0, 0, 1, 0, 0], tf.int64))
    kind = _kind(file)
    status, height, width, orientation, *places = tf.unstack(tf.switch_case(kind, branches), 6)
    readable = status == OK
    status = where(readable & (orientation == UNREADABLE), UNSUPPORTED, status)
    status = where(readable & ((height < 1) | (width < 1)), NOT_DECODABLE, status)
    return tf.stack(int64((status, kind, height, width, orientation, *places)))


def _kind(file):
    kinds = {
        JPEG: file.has(0, b"\xff\xd8\xff"),
        PNG: file.has(0, b"\x89PNG\r\n\x1a\n"),
        GIF: file.has(0, b"GIF8"),
        BMP: file.has(0, b"BM"),
        WEBP: file.has(0, b"RIFF") & file.has(8, b"WEBP"),
        # TIFF, HEIF and AVIF.
        OTHER: file.has(0, b"II*\0") | file.has(0, b"MM\0*") | file.has(4, b"ftyp"),
        NO_IMAGE: True,
    }
    return tf.argmax(tf.cast(tf.stack(list(kinds.values())), tf.int32), output_type=tf.int32)


# === Kinds of files: (status, height, width, orientation, and two places) ===


def _jpeg(file):
    """Segments until the scan starts; fill bytes and junk between them are skipped."""

    def visit(position, found):
        marker, length = file.at(position + 1), file.number(position + 2, 2, False)
        is_marker = (file.at(position) == 0xFF) & (marker != 0xFF) & (marker != 0)
        alone = (marker == 0x01) | ((marker >= 0xD0) & (marker <= 0xD8))
        end = position + 2 + tf.maximum(length, 2)
        body = position + 4
        is_app1 = is_marker & (marker == 0xE1)
        # Start of frame: 0xC0..0xCF but for tables and conditioning.
        is_frame = (marker >= 0xC0) & (marker < 0xD0) & ((marker == 0xC0) | (marker % 4 != 0))
        parts = {
            "frame": (is_marker & is_frame, position),
            "exif": (is_app1 & file.has(body, EXIF_SIGNATURE) & is_absent(found["exif"]), body + 6),
            "xmp": (is_app1 & file.has(body, XMP_SIGNATURE), body + len(XMP_SIGNATURE)),
            "adobe": (is_marker & (marker == 0xEE) & file.has(body, b"Adobe"), body),
        }
        after = where(is_marker, where(alone, position + 2, end), position + 1)
        return parts, end, after

    def ended(position):
        return file.has(position, b"\xff\xda") | file.has(position, b"\xff\xd9")

    found, status = _walk(file, 2, ("frame", "exif", "xmp", "adobe"), visit, ended)
    frame = found["frame"][0]
    status = where(is_absent(found["frame"]) & (status == OK), NOT_DECODABLE, status)
    height, width = file.number(frame + 5, 2, False), file.number(frame + 7, 2, False)
    plain_cmyk = (file.at(frame + 9) == 4) & is_absent(found["adobe"])
    return status, height, width, read_orientation(file, found), plain_cmyk, 0


def _png(file):
    """Chunks to the end: EXIF may stand after the pixels."""

    def visit(position, found):
        del found
        kind, start = position + 4, position + 8
        length = file.number(position, 4, False)
        # XMP is text with a keyword, which says whether it is compressed, and has a language and
        # a translation of its keyword, which are empty.
        is_xmp = file.has(kind, b"iTXt") & file.has(start, XMP_KEYWORD)
        compressed = is_xmp & (file.at(start + len(XMP_KEYWORD)) != 0)
        # EXIF as ImageMagick used to write it, in hexadecimal digits.
        is_text = file.has(kind, b"zTXt") | file.has(kind, b"tEXt")
        profile = is_text & file.has(start, b"Raw profile type exif\0")
        parts = {
            "exif": (file.has(kind, b"eXIf"), start),
            "xmp": (is_xmp & ~compressed, start),
            "unreadable": (compressed | profile, start),
        }
        end = start + length
        return parts, end, position + (length + 12) * _chunks_of_pixels(file, position, length)

    def ended(position):
        return file.has(position + 4, b"IEND")

    found, status = _walk(file, 8, ("exif", "xmp", "unreadable"), visit, ended)
    unreadable = ~is_absent(found["unreadable"]) & is_absent(found["exif"])
    orientation = where(unreadable, UNREADABLE, read_orientation(file, found))
    height, width = file.number(20, 4, False), file.number(16, 4, False)
    return status, height, width, orientation, 0, 0


def _chunks_of_pixels(file, position, length):
    """How many chunks from here on are pixels and as long as this one; 1 for other chunks."""

    def count():
        starts = position + (length + 12) * tf.range(MAX_RUN, dtype=tf.int64)
        headers = file.at(starts[:, None] + tf.range(8, dtype=tf.int64))  # (N, 8)
        other = tf.reduce_any(headers != headers[0], axis=1)
        return where(tf.reduce_any(other), tf.argmax(tf.cast(other, tf.int32)), MAX_RUN)

    one = tf.constant(1, tf.int64)
    return tf.cond(file.has(position + 4, b"IDAT"), count, lambda: one)


def _gif(file):
    """Blocks to the end of the first frame."""
    height, width = file.number(8, 2, True), file.number(6, 2, True)
    _, frame = tf.while_loop(
        lambda step, position: file.at(position) == 0x21,  # an extension
        lambda step, position: (step + 1, _after_blocks(file, position + 2)),
        (0, 13 + gif_palette_bytes(file.at(10))),
        maximum_iterations=MAX_STEPS,
    )
    end = _after_blocks(file, frame + 10 + gif_palette_bytes(file.at(frame + 9)) + 1)
    place = file.number(frame + tf.constant([1, 3, 5, 7], tf.int64), 2, True)
    whole = tf.reduce_all(place == tf.stack([0, 0, width, height]))
    # What a smaller first frame leaves free depends on the decoder.
    status = where(whole, OK, UNSUPPORTED)
    cut = (file.at(frame) != 0x2C) | (end > file.length)
    return where(cut, NOT_DECODABLE, status), height, width, 1, frame, end


def gif_palette_bytes(flags):
    """Length of a GIF's palette, which its flags say."""
    return where(flags >= 128, tf.bitwise.left_shift(tf.constant(6, tf.int64), flags % 8), 0)


def _after_blocks(file, position):
    """Position after a GIF's sub-blocks, of up to 255 bytes each, and the zero that ends them."""

    def next_blocks(step, position, ended):
        del ended
        sizes = file.at(position + 256 * tf.range(MAX_RUN, dtype=tf.int64))
        full = tf.argmin(tf.cast(sizes == 255, tf.int32))  # 0 if all are
        full = where(tf.reduce_all(sizes == 255), MAX_RUN - 1, full)
        position += 256 * full
        size = file.at(position)
        return step + 1, position + size + 1, size == 0

    _, position, ended = tf.while_loop(
        lambda step, position, ended: ~ended & (position <= file.length),
        next_blocks,
        (0, position, False),
        maximum_iterations=MAX_STEPS,
    )
    return where(ended, position, file.length + 1)


def _bmp(file):
    """Uncompressed pixels of 1, 4 or 8 bits with a palette, 24 or 32 bits."""

    def number(position, count=4):
        return file.number(position, count, True)

    header, width, height, bits, compression = (
        number(14),
        number(18),
        number(22),
        number(28, 2),
        number(30),
    )
    # The height is negative when rows run from top to bottom.
    height = where(height >= 2**31, 2**32 - height, height)
    has_palette = bits <= 8
    colors = bmp_colors(file)
    start = number(10)
    # Some writers do not count the palette.
    start += where(has_palette & (start == 14 + header), 4 * colors, 0)
    masks = number([54, 58, 62])
    usual_masks = (bits == 32) & tf.reduce_all(masks == [0xFF0000, 0xFF00, 0xFF])
    known = (compression == 0) | ((compression == 3) & usual_masks)
    known &= one_of(header, 40, 52, 56, 108, 124) & one_of(bits, 1, 4, 8, 24, 32)
    known &= (start > 0) & (~has_palette | (colors <= 256))
    stride = (width * bits + 31) // 32 * 4
    is_whole = (file.length >= 54) & (start + stride * height <= file.length)
    status = where(is_whole, OK, NOT_DECODABLE)
    status = where(known | (file.length < 54), status, UNSUPPORTED)
    return status, height, width, 1, start, bits


def bmp_colors(file):
    """Number of colors in a BMP's palette."""
    colors, bits = file.number(46, 4, True), file.number(28, 2, True)
    every = tf.bitwise.left_shift(tf.constant(1, tf.int64), tf.minimum(bits, 16))
    return where(colors == 0, every, colors)


def _webp(file):
    """Lossy, lossless and extended files; of animations where the first frame is."""
    is_extended, is_lossless = file.has(12, b"VP8X"), file.has(12, b"VP8L")
    known = is_extended | is_lossless | file.has(12, b"VP8 ")
    bits = file.number(21, 4, True)
    lossy = file.number([28, 26], 2, True) % 16384
    lossless = tf.stack([bits // 16384 % 16384 + 1, bits % 16384 + 1])
    extended = file.number([27, 24], 3, True) + 1
    size = where(is_extended, extended, where(is_lossless, lossless, lossy))
    height, width = tf.unstack(size, 2)
    flags = where(is_extended, file.at(20), 0)

    def visit(position, found):
        length = file.number(position + 4, 4, True)
        start, end = position + 8, position + 8 + length
        parts = {
            "exif": (file.has(position, b"EXIF") & bit(flags, 3), start),
            "xmp": (file.has(position, b"XMP ") & bit(flags, 2), start),
            "frame": (file.has(position, b"ANMF"), start),
        }
        first = {name: (here & is_absent(found[name]), s) for name, (here, s) in parts.items()}
        return first, end, end + length % 2

    def ended(position):
        del position
        return ~is_extended

    found, status = _walk(file, 30, ("exif", "xmp", "frame"), visit, ended)
    is_animated = bit(flags, 1)
    frame, end = tf.unstack(found["frame"], 2)
    place = file.number(frame + tf.constant([0, 3, 6, 9], tf.int64), 3, True)
    whole = tf.reduce_all(place == tf.stack([0, 0, width - 1, height - 1]))
    # As of a GIF: what a smaller first frame leaves free depends on the decoder.
    status = where(is_animated & ~whole, UNSUPPORTED, status)
    cut = is_animated & (is_absent(found["frame"]) | (end > file.length))
    status = where(cut | ~known, NOT_DECODABLE, status)
    return status, height, width, read_orientation(file, found), where(is_animated, frame, 0), end


def _walk(file, start, names, visit, ended):
    """Passes over the parts of a file and notes where those with a name are.

    Args:
        file: the file's `Bytes`.
        start: position of the first part.
        names: what is looked for.
        visit: function of a position and what was found before it. Returns a dictionary {name:
            (whether the part here is it, where its content starts)}, where the content ends, and
            the position of the next part.
        ended: function of a position: whether no more parts are looked at.

    Returns:
        {name: int64 (2,), start and end of its content, 0 if absent} and OK, or UNSUPPORTED if the
        file has more parts than are looked at.
    """

    def goes_on(step, position, found):
        del step, found
        return (position < file.length) & ~ended(position)

    def next_part(step, position, found):
        parts, end, after = visit(position, found)
        found = {
            name: where(here, tf.stack([content, end]), found[name])
            for name, (here, content) in parts.items()
        }
        return step + 1, after, found

    nowhere = {name: tf.zeros(2, tf.int64) for name in names}
    begin = (0, tf.constant(start, tf.int64), nowhere)
    step, position, found = tf.while_loop(goes_on, next_part, begin, maximum_iterations=MAX_STEPS)
    too_many = (step == MAX_STEPS) & goes_on(step, position, found)
    return found, where(too_many, UNSUPPORTED, OK)
