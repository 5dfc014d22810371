"""(f) of Table 3: a regular star of nine points."""

import keras
from keras import ops

from keras_gflv2.layers.quality.samplers.sampler import Sampler, location_points
from keras_gflv2.parts import Part


@keras.saving.register_keras_serializable(package="keras_gflv2")
class StarSampler(Sampler, Part):
    """Nine points shaped as a star (GFLV2, Table 3 (f); VarifocalNet, section 3.3).

    The location, its projections onto the four sides of the box, and the four corners, row by row:
    each of x = left, location, right with each of y = top, location, bottom. The features stay
    apart, as in the 3x3 convolution that VarifocalNet bends to the box.
    """

    shape = (9, 1)

    def points(self, level):
        boxes = ops.stop_gradient(level.boxes)
        center = location_points(level)
        x = ops.stack([boxes[..., 0], center[..., 0], boxes[..., 2]], axis=-1)  # (B, A_l, 3)
        y = ops.stack([boxes[..., 1], center[..., 1], boxes[..., 3]], axis=-1)
        x, y = ops.tile(x, (1, 1, 3)), ops.repeat(y, 3, axis=-1)  # (B, A_l, 9)
        return ops.stack([x, y], axis=-1)[:, :, :, None]
