"""Boxes with the deviations of their sides in, intervals that hold the true sides out.

Only numpy: a client of a server needs no Keras for it.
"""

import bisect
import statistics
from typing import Any

import numpy as np

from keras_gflv2.annotations import Array

SIDES = ("left", "top", "right", "bottom")


def conformal_intervals(
    boxes: Array, deviations: Array, coverage: float, table: dict[str, Any]
) -> np.ndarray:
    """Intervals that hold the true sides with a probability.

    Args:
        boxes: array (..., 4) xyxy in pixels.
        deviations: array (..., 4), calibrated standard deviations of the left, top, right and
            bottom side, in the same pixels.
        coverage: the probability, greater than 0 and less than 1.
        table: the configuration of a `SideCalibration`, or a dictionary with its "bias",
            "coverages", "quantiles" and "num_matched".

    Returns:
        Array (..., 4, 2) float32: lower and upper end for each side. They may lie outside of the
        image.

    Raises:
        ValueError: no interval has that coverage, or none that is finite.
    """
    half = conformal_quantile(coverage, table)
    boxes, deviations = (np.asarray(values, "float64") for values in (boxes, deviations))
    ends = [boxes + (np.array(table["bias"]) + sign * half) * deviations for sign in (-1, 1)]
    return np.stack(ends, axis=-1).astype("float32")


def conformal_quantile(coverage: float, table: dict[str, Any]) -> np.ndarray:
    """Half the width (4,) of the intervals, in deviations.

    Between two coverages of the table it is interpolated: quantiles of absolute errors grow ever
    faster, so that intervals are rather too wide than too narrow there.

    Args, Raises: see `conformal_intervals`.
    """
    check_coverage(coverage)
    levels = [0.0, *table["coverages"]]
    if coverage > levels[-1]:
        raise ValueError(
            f"`coverage` is {coverage:g}, but the calibration is of {table['num_matched']} matched "
            f"detections, which have no finite interval above n / (n + 1) = {levels[-1]:.4g}. "
            "Calibrate on more images (keras-gflv2 calibrate), or ask for less."
        )
    rows = np.array([[0.0] * 4, *table["quantiles"]])
    above = max(bisect.bisect_left(levels, coverage), 1)
    share = (coverage - levels[above - 1]) / (levels[above] - levels[above - 1])
    return rows[above - 1] + share * (rows[above] - rows[above - 1])


def normal_intervals(boxes: Array, deviations: Array, coverage: float) -> np.ndarray:
    """As `conformal_intervals`, for errors of a normal law with these deviations."""
    check_coverage(coverage)
    half = statistics.NormalDist().inv_cdf((1 + coverage) / 2)
    ends = [np.asarray(boxes) + sign * half * np.asarray(deviations) for sign in (-1, 1)]
    return np.stack(ends, axis=-1)


def check_coverage(coverage):
    """Raises ValueError if it is no probability that an interval can have."""
    is_number = isinstance(coverage, (int, float, np.number)) and not isinstance(coverage, bool)
    if not is_number or not 0 < coverage < 1:
        raise ValueError(
            f"`coverage` must be greater than 0 and less than 1, got {coverage!r}: the share of "
            "true sides that the intervals hold, such as 0.9. No finite interval holds all."
        )
