"""How to turn a picture upright, as its EXIF or XMP says, in a TensorFlow graph."""

import tensorflow as tf

from keras_gflv2.serving.file_bytes import is_absent, where

ORIENTATION_TAG = 0x0112
# Types of TIFF that are whole numbers, and their bytes. PIL gives type 1 as a string.
INTEGER_TYPES = {3: 2, 4: 4, 6: 1, 8: 2, 9: 4, 13: 4}
# Where an orientation is not there, and where it stands in a form that the graph cannot read.
ABSENT, UNREADABLE = -1, 0
EXIF_SIGNATURE = b"Exif\0\0"
XMP_SIGNATURE = b"http://ns.adobe.com/xap/1.0/\0"
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
# \C is any byte: XMP need not be valid UTF-8.
XMP_ORIENTATION = r"(?s)\C*?tiff:Orientation(?:=\"|>)([0-9])\C*"


def read_orientation(file, found):
    """As `keras_gflv2.images` has it: that of the EXIF, else that of the XMP, else 1."""
    start, end = tf.unstack(found["exif"], 2)
    start += where(file.has(start, EXIF_SIGNATURE), len(EXIF_SIGNATURE), 0)
    absent = tf.constant(ABSENT, tf.int64)
    value = tf.cond(start >= end, lambda: absent, lambda: _exif_value(file, start, end))
    xmp = found["xmp"]
    try_xmp = (value == ABSENT) & ~is_absent(xmp)
    value = tf.cond(try_xmp, lambda: _xmp_value(file.text(xmp[0], xmp[1])), lambda: value)
    return where(value == ABSENT, 1, value)


def _exif_value(file, start, end):
    """1..8, ABSENT, or UNREADABLE if there are several: versions of PIL take the first or last."""
    end = tf.minimum(end, file.length)
    little = file.has(start, b"II")
    headers = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0")
    valid = tf.reduce_any(tf.stack([file.has(start, header) for header in headers]))
    directory = start + file.number(start + 4, 4, little)
    there_are = (end - directory - 2) // 12  # negative if the directory is beyond the end
    count = tf.minimum(file.number(directory, 2, little), there_are)
    entries = directory + 2 + 12 * tf.range(tf.maximum(count, 0))
    is_tag = file.number(entries, 2, little) == ORIENTATION_TAG
    entries = tf.boolean_mask(entries, is_tag)
    counts = file.number(entries + 4, 4, little)
    several = (tf.size(entries) > 1) | tf.reduce_any(counts != 1)
    entry = tf.reduce_max(entries)
    kind, value = file.number(entry + 2, 2, little), tf.constant(1, tf.int64)
    for number, width in INTEGER_TYPES.items():
        value = where(kind == number, file.number(entry + 8, width, little), value)
    value = where(tf.size(entries) == 0, ABSENT, _known_orientation(value))
    value = where(several, UNREADABLE, value)
    return where(valid, value, 1)


def _xmp_value(text):
    found = tf.strings.regex_full_match(text, XMP_ORIENTATION)
    digit = tf.strings.regex_replace(text, XMP_ORIENTATION, r"\1", replace_global=False)
    return _known_orientation(tf.strings.to_number(tf.where(found, digit, "1"), tf.int64))


def _known_orientation(value):
    return where((value >= 1) & (value <= 8), value, 1)
