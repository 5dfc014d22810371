"""Padding that no layer sees: images of several sizes in one canvas, each as in one of its own.

Every image has its own canvas at the top left of the batch's. `own_canvases` says how large it is
while a network is traced; layers that look beyond one cell then ask here which cells are inside,
and see zeros beyond, as they do beyond the edge of a map. So the outputs inside are those of the
image in its own canvas, to rounding.
"""

import contextlib
import contextvars
from typing import Any

from keras import ops

from keras_gflv2.boxes import ceil_divide

_INSIDE: contextvars.ContextVar[Any] = contextvars.ContextVar(
    "which cells of maps of each size are of the own canvases"
)
# Pixels between the cells of all maps of a network: of the image itself, ..., of P7.
STRIDES = (1, 2, 4, 8, 16, 32, 64, 128)


@contextlib.contextmanager
def own_canvases(sizes, batch_size):
    """Networks that are traced inside see nothing outside of the images' own canvases.

    Args:
        sizes: (B, 2) height and width of each image's own canvas in pixels, multiples of 32; None
            changes nothing.
        batch_size: height and width of the batch in pixels, ints.
    """
    inside = None
    if sizes is not None:
        sizes = ops.cast(sizes, "int32")
        # Coarse maps of one size, 1 x 1, are all inside.
        inside = dict(_cells(sizes, batch_size, stride) for stride in STRIDES)
    token = _INSIDE.set(inside)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def _cells(sizes, batch_size, stride):
    """Height and width of the maps of a stride; which of their cells are inside (B, H, W, 1)."""
    shape = tuple(ceil_divide(side, stride) for side in batch_size)
    own = ceil_divide(sizes, stride)  # (B, 2)
    rows, columns = (ops.arange(n, dtype=own.dtype) < own[:, i, None] for i, n in enumerate(shape))
    return shape, (rows[:, :, None] & columns[:, None, :])[..., None]


def own_cells(maps):
    """Which cells of maps (B, H, W, C) are of their image's own canvas.

    Returns:
        Booleans (B, H, W, 1), or None where all are.
    """
    inside = _INSIDE.get(None)
    return None if inside is None else inside[tuple(maps.shape[1:3])]


def only_own(maps, outside=0.0):
    """Maps (B, H, W, C) with the value `outside` where they are not of their image's canvas."""
    own = own_cells(maps)
    return maps if own is None else ops.where(own, maps, ops.cast(outside, maps.dtype))
