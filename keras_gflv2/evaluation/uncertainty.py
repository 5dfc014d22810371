"""How good a detector's uncertainties are: do they order errors, and do intervals hold the truth?

In: a model and a dataset. Out: plain data, to be drawn or written as JSON and CSV.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_gflv2.annotations import Dataset, Detector, Verbose
from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.coco import match_detections
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.intervals import SIDES, conformal_intervals, normal_intervals

COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def uncertainty(
    model: Detector,
    dataset: Dataset,
    *,
    coverages: Sequence[float] = COVERAGES,
    score_threshold: float = 0.0,
    verbose: Verbose = "auto",
) -> dict[str, Any]:
    """Compares the uncertainties of a detector with the errors of its boxes.

    The error of a side is that of the object less that of the detection which matches it, by COCO's
    rule at an IoU of 0.5, in pixels of the original image.

    Args:
        model: a dense detector with distributions, or a `TestTimeAugmentation` of one.
        dataset: as in `evaluate_coco`; of images that were not used to calibrate.
        coverages: of the calibration curve, each greater than 0 and less than 1.
        score_threshold: detections below are left out, as by `detect`.
        verbose: as in `evaluate_coco`.

    Returns:
        Dictionary of
        - "calibrated": whether the detector has a calibration,
        - "num_matched", "num_detections" and "num_objects" (without ignored ones),
        - "sides": {"left", "top", "right", "bottom", "all": dictionary of "spearman", the rank
          correlation of uncertainty and absolute error; "normalized_std", the standard deviation of
          error / uncertainty, which is 1 if uncertainties are standard deviations; "within", the
          share of errors smaller than their uncertainty (0.683 for a normal law); and in pixels
          "mean_uncertainty", "mean_absolute_error" and "bias", the mean error},
        - "curve": a list of {"side", "nominal", "coverage", "width", "constant_width"}, ready for
          `csv.DictWriter`: the asked coverage; the share of true sides that the intervals hold; the
          mean width of the intervals in pixels (sharpness; Gneiting et al., 2007); and the width of
          intervals that are equally wide for each side of a kind, hold as many true sides of these
          images, and are centered at the detections. Intervals are those of `detect`, or those of a
          normal law where there is no calibration.

    Raises:
        ValueError: the detector has no distributions, no detection matches an object, or as
            `evaluate_coco`.

    >>> report = keras_gflv2.evaluation.uncertainty(model, val_ds)
    >>> report["sides"]["all"]["spearman"]
    """
    images = detect_dataset(model, dataset, verbose=verbose)
    matches = matched_sides(images, class_names_of(model, dataset), score_threshold)
    calibration = getattr(getattr(model, "model", model), "calibration", None)
    table = calibration and calibration.get_config()
    return {
        "calibrated": calibration is not None,
        "num_matched": len(matches.scores),
        "num_detections": int(sum((image.scores > score_threshold).sum() for image in images)),
        "num_objects": int(sum((~image.true_ignored).sum() for image in images)),
        **uncertainty_of(matches, table, coverages),
    }


def matched_sides(images, class_names, score_threshold):
    """The `MatchedDetections` of images, or a ValueError that says why there is nothing to compare.

    Args:
        images: list of `EvaluatedImage`.
        class_names, score_threshold: see `match_detections`.
    """
    if any(image.uncertainties is None for image in images):
        raise ValueError(
            "This detector tells no uncertainties: they need boxes as general distributions "
            "(GFLV1, GFLV2, or others with `distribution_guided=True`)."
        )
    matches = match_detections(images, class_names, score_threshold=score_threshold)
    if not len(matches.scores):
        count = sum((image.scores > score_threshold).sum() for image in images)
        raise ValueError(
            f"None of {count} detections with a score above {score_threshold} overlaps an object "
            "of its class by an IoU of 0.5 or more. Train the detector longer, lower "
            "`score_threshold`, or check that the dataset has boxes of the detector's classes."
        )
    return matches


def uncertainty_of(matches, table=None, coverages=COVERAGES):
    """ "sides" and "curve" of `uncertainty`.

    Args:
        matches: `MatchedDetections` with uncertainties.
        table: configuration of the `SideCalibration` that the uncertainties are of, or None.
        coverages: see there.
    """
    errors = matches.true_boxes.astype("float64") - matches.boxes
    spread = matches.uncertainties.astype("float64")
    of_sides = {"all": slice(None), **dict(zip(SIDES, range(4)))}
    sides = {name: _side(errors[:, i], spread[:, i]) for name, i in of_sides.items()}
    curve = []
    for coverage in coverages:
        if table is None:
            intervals = normal_intervals(matches.boxes, spread, coverage)
        else:
            intervals = conformal_intervals(matches.boxes, spread, coverage, table)
        curve += _points(coverage, intervals, matches.true_boxes, errors)
    return {"sides": sides, "curve": curve}


def _side(errors, spread):
    ratio = errors / spread
    return {
        "spearman": spearman(spread, np.abs(errors)),
        "normalized_std": float(ratio.std()),
        "within": float((np.abs(ratio) < 1).mean()),
        "mean_uncertainty": float(spread.mean()),
        "mean_absolute_error": float(np.abs(errors).mean()),
        "bias": float(errors.mean()),
    }


def _points(nominal, intervals, true_boxes, errors):
    """Rows of the curve for one coverage: of all sides, and of each."""
    lower, upper = intervals[..., 0], intervals[..., 1]
    held = (lower <= true_boxes) & (true_boxes <= upper)
    width = upper - lower

    def row(side, constant, index):
        return {
            "side": side,
            "nominal": float(nominal),
            "coverage": float(held[:, index].mean()),
            "width": float(width[:, index].mean()),
            "constant_width": float(constant),
        }

    # Constant intervals that hold as many of all sides, each kind of side its own width.
    constants = 2 * np.quantile(np.abs(errors), held.mean(), axis=0)
    rows = [row("all", constants.mean(), slice(None))]
    for index, side in enumerate(SIDES):
        constant = 2 * np.quantile(np.abs(errors[:, index]), held[:, index].mean())
        rows.append(row(side, constant, index))
    return rows


def spearman(x, y):
    """Spearman's rank correlation of two arrays, equal values at their mean rank; NaN of less than
    two values, or where one array does not vary."""
    x, y = (ranks(np.ravel(values)) for values in (x, y))
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def ranks(values):
    """Ranks (n,) of values from 1; equal ones have the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
