"""Every way to tell the quality of boxes, and a level or a small detector to try it on."""

import keras
import numpy as np
from common import tiny_backbone

from keras_gflv2 import layers
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers.quality.quality import LevelFeatures
from keras_gflv2.models.dense_detector import DenseDetector
from keras_gflv2.representations import Distances

TWO_ANCHORS = AnchorGrid(octaves=2)
SAMPLERS = {
    "point": layers.PointSampler,
    "region": lambda: layers.RegionSampler(3),
    "border": layers.BorderSampler,
    "border_middle": layers.BorderMiddleSampler,
    "border_extreme": lambda: layers.BorderExtremeSampler(5),
    "star": layers.StarSampler,
    "deformable": layers.DeformableSampler,
}
QUALITIES = {
    name: lambda make=make: layers.SampledQuality(make(), channels=8, hidden=16)
    for name, make in SAMPLERS.items()
} | {"composed": lambda: layers.ComposedQuality(16)}


def small_detector(quality, seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    arguments = {
        "fpn_channels": 16,
        "head_channels": 16,
        "head_depth": 1,
        "head_norm_groups": 4,
        **kwargs,
    }
    return DenseDetector(tiny_backbone(), 3, quality=quality, **arguments)


def level_of(distances, rows, columns, box_map=None, grid=None):
    """A level of 16 pixels per cell, whose boxes reach so far (B, A, 4) from their locations."""
    distances = np.asarray(distances, "float32")
    if box_map is None:
        box_map = np.zeros((len(distances), rows, columns, 2), "float32")
    return LevelFeatures(
        classification=keras.ops.convert_to_tensor(box_map),
        box=keras.ops.convert_to_tensor(box_map),
        raw=keras.ops.convert_to_tensor(distances),
        representation=Distances(),
        grid=grid or AnchorGrid(),
        index=1,
    )
