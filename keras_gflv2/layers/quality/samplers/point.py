"""(a) of Table 3: the location itself."""

import keras

from keras_gflv2.layers.quality.samplers.sampler import Sampler, location_points
from keras_gflv2.parts import Part


@keras.saving.register_keras_serializable(package="keras_gflv2")
class PointSampler(Sampler, Part):
    """The location itself, wherever its box is (GFLV2, Table 3 (a))."""

    def points(self, level):
        return location_points(level)[:, :, None, None]
