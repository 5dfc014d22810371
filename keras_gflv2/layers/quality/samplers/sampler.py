"""Predicted boxes in, the points where a map is read for them out: what all samplers share."""

from keras import ops


class Sampler:
    """Where the map of a level is read for the quality of each location's box.

    The points of a group are pooled; the groups stay apart.

    Attributes:
        shape: (G, n): groups per location, and points per group.
        pooling: how the n points of a group become one feature: "mean", or "max", of each channel
            by itself.
    """

    shape = (1, 1)
    pooling = "mean"

    def build_from(self, channels, anchors_per_cell):
        """Makes the weights, of those that have some.

        Args:
            channels: of the maps of the towers.
            anchors_per_cell: locations per cell.
        """

    def points(self, level):
        """Points (B, A_l, G, n, 2), float32: x and y in cells of the map of a `LevelFeatures`.

        No gradient goes into the boxes: the points would move to where the quality is told high,
        which does not make the boxes better.
        """
        raise NotImplementedError


def points_in_boxes(level, places):
    """Points (B, A_l, G, n, 2) at the same places of all boxes.

    Args:
        level: a `LevelFeatures`.
        places: list (G, n, 2): x and y from 0, left and top, to 1, right and bottom.
    """
    boxes = ops.stop_gradient(level.boxes)[:, :, None, None]  # (B, A_l, 1, 1, 4)
    top_left, bottom_right = boxes[..., :2], boxes[..., 2:]
    places = ops.convert_to_tensor(places, dtype="float32")
    return top_left + (bottom_right - top_left) * places


def location_points(level):
    """The locations themselves (B, A_l, 2), in cells of the map."""
    cells = ops.cast(level.at.cells, "float32")
    return ops.broadcast_to(cells[None], (ops.shape(level.box)[0], *ops.shape(cells)))
