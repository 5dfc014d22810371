"""Predicted spreads in, standard deviations that hold and intervals of a chosen coverage out."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_gflv2.intervals import conformal_intervals
from keras_gflv2.parts import Part

SMALLEST = 1e-6  # of a spread or of the area of a box, in pixels


@keras.saving.register_keras_serializable(package="keras_gflv2")
class SideCalibration(Part):
    """How far the sides of a detector's boxes are off, as measured on images with objects.

    The spread of a side's distribution orders errors but is not their size. Its calibrated standard
    deviation is

        deviation = scale * spread ** exponent * sqrt(area of the box) ** (1 - exponent)

    with one scale for each kind of side. The exponent is between 0 and 1, so that a wider spread
    never gives a smaller deviation. With 1 the deviation is proportional to the spread. Both
    factors are lengths: the result does not depend on the size that images are resized to.

    Intervals are those of split conformal prediction (Lei et al., 2018, "Distribution-Free
    Predictive Inference for Regression") with normalized scores (Papadopoulos et al., 2008,
    "Normalized nonconformity measures for regression conformal prediction"): the score of a matched
    detection's side is |error - bias * deviation| / deviation, and the interval of a new one,
    `side + (bias ± quantile) * deviation`, holds the true side with the chosen probability.
    The probability is over detections that match an object, from images like those of the
    calibration; it is not one for each kind of image or object, and says nothing of detections
    that match none.

    `evaluation.calibrate` makes it from a dataset.

    Args:
        scale: (4,) of the left, top, right and bottom side, positive.
        exponent: of the spread, 0 to 1.
        bias: (4,) where the true side is on average, in deviations from the predicted one.
        coverages: (m,) rising, between 0 and 1; the last is n / (n + 1), the largest for which n
            detections have a finite quantile.
        quantiles: (m, 4) of the scores: of n scores the k-th smallest, k = ceil((n + 1) coverage).
        num_matched: n.

    Raises:
        ValueError: shapes or values that cannot be.
    """

    def __init__(
        self,
        scale: Sequence[float],
        exponent: float = 1.0,
        bias: Sequence[float] = (0, 0, 0, 0),
        coverages: Sequence[float] = (),
        quantiles: Sequence[Sequence[float]] = (),
        num_matched: int = 0,
    ):
        # Plain numbers: the configuration is JSON.
        self.scale = [float(value) for value in scale]
        self.exponent = float(exponent)
        self.bias = [float(value) for value in bias]
        self.coverages = [float(value) for value in coverages]
        self.quantiles = [[float(value) for value in row] for row in quantiles]
        self.num_matched = int(num_matched)
        self._check()

    def _check(self):
        levels, rows = np.array([0.0, *self.coverages]), np.array([[0.0] * 4, *self.quantiles])
        if not (
            len(self.scale) == len(self.bias) == 4
            and np.isfinite([*self.scale, *self.bias]).all()
            and min(self.scale) > 0
            and 0 <= self.exponent <= 1
            and len(levels) == len(rows)
            and np.isfinite(rows).all()
            and (np.diff(levels) > 0).all()
            and levels[-1] < 1
            and (np.diff(rows, axis=0) >= 0).all()
        ):
            raise ValueError(
                "A SideCalibration needs four positive scales, an exponent of 0 to 1, four biases, "
                "rising coverages between 0 and 1 and for each of them four quantiles, which do "
                f"not fall. Received: {self!r}."
            )

    def deviations(self, spread, boxes):
        """Standard deviations (..., 4) of the sides.

        Args:
            spread: (..., 4) standard deviations of the predicted distributions, in pixels.
            boxes: (..., 4) xyxy, in the same pixels.
        """
        spread, boxes = (ops.convert_to_tensor(values) for values in (spread, boxes))
        size = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
        area = ops.maximum(size[..., :1] * size[..., 1:], SMALLEST)
        powers = ops.power(ops.maximum(spread, SMALLEST), self.exponent)
        powers = powers * ops.power(area, (1 - self.exponent) / 2)
        return powers * ops.convert_to_tensor(self.scale, powers.dtype)

    def intervals(self, boxes, deviations, coverage):
        """Where the true sides are: `conformal_intervals` of arrays, with this table."""
        return conformal_intervals(boxes, deviations, coverage, self.get_config())
