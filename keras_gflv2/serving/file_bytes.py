"""The bytes of a file in a TensorFlow graph, and whole numbers read from them.

Reading never fails: what is beyond the end of a file is zero.
"""

import tensorflow as tf


class Bytes:
    """The bytes of a file; past its end are zeros."""

    def __init__(self, content):
        self.content = content
        self.values = tf.concat([tf.io.decode_raw(content, tf.uint8), [0]], 0)
        self.length = tf.size(self.values, tf.int64) - 1

    def at(self, positions):
        """Bytes at positions of any shape, as int64."""
        positions = tf.convert_to_tensor(positions, tf.int64)
        inside = tf.clip_by_value(positions, 0, self.length)
        return tf.cast(tf.gather(self.values, inside), tf.int64)

    def number(self, positions, count, little):
        """Unsigned numbers of `count` bytes; `little` says which end comes first."""
        positions = tf.convert_to_tensor(positions, tf.int64)[..., None]
        values = self.at(positions + tf.range(count, dtype=tf.int64))
        powers = tf.constant([256**power for power in range(count)], tf.int64)
        return tf.reduce_sum(values * where(little, powers, powers[::-1]), axis=-1)

    def has(self, position, signature):
        positions = position + tf.range(len(signature), dtype=tf.int64)
        return tf.reduce_all(self.at(positions) == tf.constant(list(signature), tf.int64))

    def text(self, start, end):
        start = tf.clip_by_value(start, 0, self.length)
        return tf.strings.substr(self.content, start, tf.minimum(end, self.length) - start)


def int64(values):
    return [tf.cast(value, tf.int64) for value in values]


def where(condition, one, other):
    """`tf.where` of whole numbers."""
    return tf.where(
        condition, tf.convert_to_tensor(one, tf.int64), tf.convert_to_tensor(other, tf.int64)
    )


def is_absent(place):
    """Whether a part of a file, (start, end), was not found."""
    return place[0] == 0


def bit(flags, number):
    return flags // 2**number % 2 == 1


def one_of(value, *allowed):
    return tf.reduce_any(value == tf.constant(allowed, tf.int64))
