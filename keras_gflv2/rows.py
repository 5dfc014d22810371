"""Rows of arrays (B, A, ...), chosen by indices (B, M) of each image's own."""

from keras import ops


def take_rows(values, indices):
    """`values` (B, A, ...) at `indices` (B, M) in 0..A - 1: (B, M, ...).

    All images as one list of rows: `keras.ops.take_along_axis` would spread the indices over the
    other axes and, on TensorFlow, transpose all values for it.
    """
    shape = ops.shape(values)
    starts = ops.arange(shape[0], dtype=indices.dtype) * ops.cast(shape[1], indices.dtype)
    rows = ops.reshape(values, (-1, *values.shape[2:]))
    return ops.take(rows, indices + starts[:, None], axis=0)
