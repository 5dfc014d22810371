"""What all assigners share: which locations of each image count at all."""

from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.grid import SIZE_MULTIPLE
from keras_gflv2.parts import Part


class Assigner(Part):
    """Decides which locations answer for which boxes in training, with static shapes.

    Subclasses implement `__call__`; their constructor arguments are attributes, and so their
    configuration. Everything is `keras.ops` on arrays whose shapes follow from those of the
    arguments: it runs inside a compiled step.

    Call arguments:
        targets: `Targets` of the batch.
        at: `Locations` of its size.

    Returns an `Assignment`.
    """

    # A location does not count when more than this part of its anchor lies inside one ignored box.
    ignore_threshold = 0.5
    # Images of a batch count up to their size rounded up to a multiple of this, to which the
    # official pipeline pads each.
    size_multiple = SIZE_MULTIPLE

    def __call__(self, targets, at):
        raise NotImplementedError(f"{type(self).__name__} must implement __call__(targets, at).")

    def inside(self, targets, at):
        """Whether each location lies inside each image as it is padded by itself: (B, A) bool."""
        limits = ops.take(self.valid_sizes(targets, at), at.levels, axis=1)  # (B, A, 2)
        return (at.cells[None, :, 1] < limits[..., 0]) & (at.cells[None, :, 0] < limits[..., 1])

    def valid_sizes(self, targets, at):
        """Rows and columns of every level that lie inside each image: (B, levels, 2) int32."""
        all_cells = ops.stack(
            [ops.stack([ops.cast(s, "int32") for s in shape]) for shape in at.shapes]
        )[None]  # (1, levels, 2)
        if targets.image_sizes is None:
            return ops.tile(all_cells, (ops.shape(targets.boxes)[0], 1, 1))
        sizes = ops.cast(ops.ceil(ops.cast(targets.image_sizes, "float32")), "int32")
        sizes = -(-sizes // self.size_multiple) * self.size_multiple
        strides = ops.convert_to_tensor(at.grid.strides, dtype="int32")
        cells = -(-sizes[:, None, :] // strides[None, :, None])
        return ops.minimum(cells, all_cells)

    def in_ignored(self, targets, at):
        """Whether most of a location's anchor lies inside one ignored box: (B, A) bool, or None."""
        if targets.ignored is None:
            return None
        shared = box_ops.intersection(at.anchors[None, :, None], targets.boxes[:, None])
        part = shared / box_ops.area(at.anchors)[None, :, None]  # (B, A, N)
        hidden = (part > self.ignore_threshold) & targets.is_ignored[:, None]
        return ops.any(hidden, axis=-1)
