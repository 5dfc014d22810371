"""(b) of Table 3: the whole box."""

import keras

from keras_gflv2.layers.quality.samplers.sampler import Sampler, points_in_boxes
from keras_gflv2.parts import Part


@keras.saving.register_keras_serializable(package="keras_gflv2")
class RegionSampler(Sampler, Part):
    """The region of the box by RoIAlign (GFLV2, Table 3 (b); Mask R-CNN, section 3).

    The box is divided into `size` x `size` bins, each read at one point, its center; the mean over
    the bins is the one feature of the box. It is read from the level that predicts the box.

    Args:
        size: number of bins along each side.

    Raises:
        ValueError: `size` is less than 1.
    """

    def __init__(self, size: int = 7):
        if size < 1:
            raise ValueError(f"`size` must be at least 1, got {size}.")
        self.size = size

    @property
    def shape(self):
        return (1, self.size**2)

    def points(self, level):
        centers = [(i + 0.5) / self.size for i in range(self.size)]
        return points_in_boxes(level, [[(x, y) for y in centers for x in centers]])
