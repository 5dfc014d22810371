"""(c), (d) and (e) of Table 3: points of the border of the box."""

import keras

from keras_gflv2.layers.quality.samplers.sampler import Sampler, points_in_boxes
from keras_gflv2.parts import Part


@keras.saving.register_keras_serializable(package="keras_gflv2")
class BorderSampler(Sampler, Part):
    """Dense points of the border of the box (GFLV2, Table 3 (c)).

    Each side is divided into equal pieces, each read at its middle. The mean over a side is a
    feature; the four sides, left, top, right and bottom, stay apart.

    Args:
        points_per_side: how many points a side has.

    Raises:
        ValueError: `points_per_side` is less than 1.
    """

    def __init__(self, points_per_side: int = 10):
        if points_per_side < 1:
            raise ValueError(f"`points_per_side` must be at least 1, got {points_per_side}.")
        self.points_per_side = points_per_side

    @property
    def shape(self):
        return (4, self.points_per_side)

    def points(self, level):
        return points_in_boxes(level, border_places(self.points_per_side))


@keras.saving.register_keras_serializable(package="keras_gflv2")
class BorderMiddleSampler(Sampler, Part):
    """The middle point of each side of the box (GFLV2, Table 3 (d)): left, top, right, bottom."""

    shape = (4, 1)

    def points(self, level):
        return points_in_boxes(level, border_places(1))


@keras.saving.register_keras_serializable(package="keras_gflv2")
class BorderExtremeSampler(BorderSampler):
    """The extreme points of the border of the box (GFLV2, Table 3 (e); BorderDet, section 3.2).

    Along each side every channel is read where it is largest, among the points of a
    `BorderSampler`: a channel can learn to answer at the extreme points of objects. All sides
    share the channels; BorderDet has channels for each.

    Args:
        points_per_side: how many points of a side are looked at.
    """

    pooling = "max"


def border_places(count):
    """Middles of `count` pieces of each side of the unit square, a list (4, count, 2)."""
    along = [(i + 0.5) / count for i in range(count)]
    return [
        [(0.0, y) for y in along],
        [(x, 0.0) for x in along],
        [(1.0, y) for y in along],
        [(x, 1.0) for x in along],
    ]
