"""The figures of GFLV2 that show what its distributions know, of any detector and any data.

Each module has one figure: a function that computes its numbers, which can be tested and written
down, and one that draws them with matplotlib.
"""

from keras_gflv2.visualization.figures.quality_loss import draw_quality_loss, quality_losses
from keras_gflv2.visualization.figures.quality_scatter import draw_quality_scatter, quality_scatter
from keras_gflv2.visualization.figures.scenes import Scene, scenes_of
from keras_gflv2.visualization.figures.side_distributions import (
    draw_side_distributions,
    draw_statistics,
    side_distributions,
)
from keras_gflv2.visualization.figures.speed_accuracy import draw_speed_accuracy, speed_accuracy
from keras_gflv2.visualization.figures.suppression import draw_suppression, suppression

__all__ = [
    "Scene",
    "draw_quality_loss",
    "draw_quality_scatter",
    "draw_side_distributions",
    "draw_speed_accuracy",
    "draw_statistics",
    "draw_suppression",
    "quality_losses",
    "quality_scatter",
    "scenes_of",
    "side_distributions",
    "speed_accuracy",
    "suppression",
]
