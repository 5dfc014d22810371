"""Where a detector looks: the size of a batch in; locations, strides and anchors out.

The one place that knows strides, offsets, anchors, to which multiple images are padded, and how
large the map of each level is.
"""

import dataclasses
import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.computed_once import computed_once
from keras_gflv2.parts import Part

STRIDES = (8, 16, 32, 64, 128)
# The coarsest level that convolutions reach evenly; P6 and P7 round up.
SIZE_MULTIPLE = 32


@dataclasses.dataclass
class Locations:
    """The A places of a batch that each predict one box: level by level, row by row.

    Where a cell has several anchors, each is a location, and the anchors of a cell follow one
    another.

    Attributes:
        points: (A, 2) x and y in pixels of the network's input.
        strides: (A, 1) pixels between neighboring cells of the location's level.
        shapes: list of (rows, columns), one per level; ints, or scalar tensors in a graph.
        grid: the `AnchorGrid` that they are of.
        kinds: (A,) which of the anchors of its cell each is; None for all, one after the other.
    """

    points: object
    strides: object
    shapes: list
    grid: "AnchorGrid"
    kinds: object = None

    @property
    def lengths(self):
        """How many locations each level has, as a list."""
        return [rows * columns * self.grid.anchors_per_cell for rows, columns in self.shapes]

    @property
    def count(self):
        """A, as an int or a scalar tensor."""
        return ops.shape(self.points)[0]

    def with_scale(self, scale):
        """The same locations with anchors of another scale."""
        grid = AnchorGrid(**{**self.grid.get_config(), "scale": scale})
        return dataclasses.replace(self, grid=grid)

    def take(self, indices):
        """The locations (B, D) of some indices: with points (B, D, 2) and strides (B, D, 1)."""
        points, strides = (ops.take(x, indices, axis=0) for x in (self.points, self.strides))
        kinds = indices % self.grid.anchors_per_cell
        return dataclasses.replace(self, points=points, strides=strides, kinds=kinds)

    @computed_once
    def levels(self):
        """(A,) int32: the index of each location's level."""
        finer = self.strides > ops.convert_to_tensor(self.grid.strides, dtype="float32")
        return ops.sum(ops.cast(finer, "int32"), axis=-1)

    @computed_once
    def cells(self):
        """(A, 2) int32: column and row of each location's cell in the map of its level."""
        corner = self.points - self.strides * self.grid.offset
        return ops.cast(ops.round(corner / self.strides), "int32")

    @computed_once
    def anchors(self):
        """(A, 4) xyxy in pixels: the anchor of each location, centered at its point."""
        grid = self.grid
        if grid.anchors_per_cell == 1:
            half = ops.repeat(self.strides * grid.scale / 2, 4, axis=-1)
            return box_ops.boxes_from_distances(self.points, half)
        kinds = self.kinds
        if kinds is None:
            kinds = ops.arange(self.count) % grid.anchors_per_cell
        half_sizes = ops.convert_to_tensor(grid.half_sizes(), dtype="float32")  # (K, 2) in strides
        half = self.strides * ops.take(half_sizes, kinds, axis=0)
        return ops.concatenate([self.points - half, self.points + half], axis=-1)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class AnchorGrid(Part):
    """Locations and anchors of all levels for an image of any size.

    The location of cell (row i, column j) is the pixel ((j + offset) * stride,
    (i + offset) * stride). GFL, ATSS and RetinaNet have no offset, FCOS and FoveaBox half a stride.
    The anchors of a cell are `octaves` sizes of every ratio: `scale * 2^(k / octaves)` strides for
    k = 0, 1, ..., octaves - 1.

    Args:
        strides: pixels between neighboring cells of each level, finest first.
        offset: of a location in its cell, in strides.
        scale: side of the square anchor in strides.
        octaves: sizes of anchors per ratio.
        ratios: height / width of the anchors.

    Call arguments:
        height, width: size of the batch in pixels, before the network pads it to
            `size_multiple`; ints, or scalar tensors in a graph.

    Returns `Locations`.

    >>> at = keras_gflv2.AnchorGrid()(480, 640)
    >>> at.points.shape, at.lengths    # (6400, 2), [4800, 1200, 300, 80, 20]
    """

    size_multiple = SIZE_MULTIPLE

    def __init__(
        self,
        strides: Sequence[int] = STRIDES,
        offset: float = 0.0,
        scale: float = 8.0,
        octaves: int = 1,
        ratios: Sequence[float] = (1.0,),
    ):
        if octaves < 1 or not ratios or min(ratios) <= 0:
            raise ValueError(
                "`octaves` must be at least 1 and `ratios` positive numbers, at least one; got "
                f"{octaves} and {tuple(ratios)}."
            )
        self.strides = tuple(strides)
        self.offset = offset
        self.scale = scale
        self.octaves = octaves
        self.ratios = tuple(ratios)

    @property
    def anchors_per_cell(self):
        """How many anchors, and so locations, each cell has."""
        return self.octaves * len(self.ratios)

    def half_sizes(self):
        """Half of width and height of each anchor of a cell, in strides: a list of pairs."""
        sizes = [self.scale * 2 ** (k / self.octaves) for k in range(self.octaves)]
        return [
            (size / math.sqrt(ratio) / 2, size * math.sqrt(ratio) / 2)
            for ratio in self.ratios
            for size in sizes
        ]

    def __call__(self, height, width):
        height, width = self.padded(height), self.padded(width)
        shapes = [
            (box_ops.ceil_divide(height, s), box_ops.ceil_divide(width, s)) for s in self.strides
        ]
        levels = [self._cells(level, *shape) for level, shape in enumerate(shapes)]
        points, strides = (ops.concatenate(parts) for parts in zip(*levels))
        return Locations(*self._repeated(points, strides), shapes, self)

    def level(self, index, rows, columns):
        """`Locations` of one level, whose map has so many rows and columns."""
        points, strides = self._cells(index, rows, columns)
        return Locations(*self._repeated(points, strides), [(rows, columns)], self)

    def _cells(self, level, rows, columns):
        """Points (cells, 2) and strides (cells, 1) of one level."""
        stride = self.strides[level]
        y, x = ops.meshgrid(ops.arange(rows), ops.arange(columns), indexing="ij")
        xy = ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)
        points = ops.cast(xy, "float32") * stride
        if self.offset:
            points = points + self.offset * stride
        return points, ops.ones_like(points[:, :1]) * stride

    def _repeated(self, points, strides):
        if self.anchors_per_cell == 1:
            return points, strides
        return (ops.repeat(x, self.anchors_per_cell, axis=0) for x in (points, strides))

    def padded(self, side):
        """A height or width rounded up to what the network sees."""
        return padded(side)


def padded(side):
    """A height or width in pixels, rounded up to what every detector of this package sees."""
    return box_ops.ceil_divide(side, SIZE_MULTIPLE) * SIZE_MULTIPLE
