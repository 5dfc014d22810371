"""Learns from images with objects how far the sides of a detector's boxes are off.

In: a model and a dataset. Out: a `SideCalibration`, which the model has from then on.
"""

import contextlib
import warnings

import numpy as np
from keras import ops

from keras_gflv2.annotations import Dataset, Detector, Verbose
from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.evaluation.uncertainty import matched_sides
from keras_gflv2.postprocessing import SideCalibration

LEVELS = np.round([*np.arange(0.05, 0.96, 0.05), 0.96, 0.97, 0.98, 0.99, 0.995, 0.999], 3)
EXPONENTS = np.linspace(0, 1, 21)
# The exponent is the one of the best intervals of these coverages.
COVERAGES = (0.8, 0.9, 0.95)
FOLDS = 5
FEWEST = 20  # matched detections: 0.95 is the largest coverage then
FEW = 300  # below, a coverage of 0.9 is likely (two standard deviations) off by 0.035 and more


def calibrate(
    model: Detector, dataset: Dataset, *, score_threshold: float = 0.0, verbose: Verbose = "auto"
) -> SideCalibration:
    """Calibrates the uncertainties of a detector, in place.

    From then on "uncertainties" are standard deviations in size, too, `detect(coverage=0.9)` gives
    intervals that hold the true sides with that probability, and the calibration is saved and
    exported with the detector. Training drops it.

    What is learnt of the detections that match an object (COCO's rule at an IoU of 0.5), 9 numbers:
    for each kind of side its scale and its bias, and one exponent, see `SideCalibration`. The
    exponent is the one of 0, 0.05, ..., 1 with the best interval score (Gneiting and Raftery, 2007,
    section 6.2: width, and 2 / (1 - coverage) times the distance of true sides outside) for the
    coverages 80, 90 and 95 %. Choosing the narrowest intervals instead would leave out the sides
    that are hard to locate.
    Quantiles are those of scores that each fifth of the images gets from what is learnt of the
    other four (cross-conformal prediction; Vovk, 2015), so that few images do not make intervals
    too narrow.

    Coverage holds for images like those of the dataset. Take images that the detector was not
    trained on, as those of its validation; about 1000 matched detections put a coverage of 90 %
    within 2 points (two standard deviations, if errors were independent; those in one image are
    not quite).

    Args:
        model: a dense detector with distributions.
        dataset: as in `evaluate_coco`.
        score_threshold: detections below are left out. Those of low scores are a little further
            off: without them intervals are narrower, and hold less where they are not left out.
        verbose: as in `evaluate_coco`.

    Returns:
        The `SideCalibration`, which is `model.calibration`, too.

    Raises:
        ValueError: the detector has no distributions, less than 20 detections match an object, or
            as `evaluate_coco`.

    Warns of less than 300 matches, and of classes without one.

    >>> keras_gflv2.evaluation.calibrate(model, val_ds)
    >>> model.detect("cells.jpg", coverage=0.9)[0]["intervals"]
    """
    if not hasattr(model, "calibration"):
        raise ValueError(
            f"`calibrate` takes a dense detector itself, got a {type(model).__name__}."
        )
    with _uncalibrated(model):
        images = detect_dataset(model, dataset, verbose=verbose)
    class_names = class_names_of(model, dataset)
    matches = matched_sides(images, class_names, score_threshold)
    _check(matches, class_names)
    model.calibration = calibration_of(matches)
    return model.calibration


def calibration_of(matches):
    """The `SideCalibration` of `MatchedDetections` with raw uncertainties; see `calibrate`."""
    form = _learnt(matches)
    groups = np.unique(matches.images, return_inverse=True)[1] % FOLDS
    scores = np.empty(matches.boxes.shape)
    for group in np.unique(groups):
        held_out = groups == group
        rest = form if held_out.all() else _learnt(matches.take(~held_out))
        scores[held_out] = _scores(matches.take(held_out), rest)
    ranked, count = np.sort(scores, axis=0), len(scores)
    levels = [*LEVELS[LEVELS < count / (count + 1)], count / (count + 1)]
    quantiles = [ranked[_rank(level, count)] for level in levels]
    return SideCalibration(
        **form.get_config()
        | {
            "coverages": [float(level) for level in levels],
            "quantiles": [[float(f"{value:.6g}") for value in row] for row in quantiles],
            "num_matched": count,
        }
    )


def _rank(level, count):
    """Index of the conformal quantile among `count` rising scores; roundoff does not raise it."""
    return min(int(np.ceil((count + 1) * level - 1e-9)), count) - 1


def _learnt(matches):
    """The calibration with the best intervals, without its table."""
    forms = [_of_exponent(matches, exponent) for exponent in EXPONENTS]
    return min(forms, key=lambda form: _interval_score(matches, form))


def _of_exponent(matches, exponent):
    unscaled = SideCalibration([1, 1, 1, 1], exponent)
    deviations = _deviations(matches, unscaled)
    ratio = (matches.true_boxes - matches.boxes) / deviations
    scale = np.maximum(ratio.std(axis=0), 1e-6)  # so that error / deviation has the deviation 1
    bias = np.median(ratio / scale, axis=0)
    rounded = [[float(f"{value:.6g}") for value in values] for values in (scale, bias)]
    return SideCalibration(rounded[0], exponent, rounded[1])


def _interval_score(matches, form):
    """Mean interval score over `COVERAGES`, each relative to that of constant intervals."""
    scores, deviations = _scores(matches, form), _deviations(matches, form)
    errors = np.abs(matches.true_boxes - matches.boxes)
    relative = [
        _score(coverage, scores, deviations) / max(_score(coverage, errors, 1.0), 1e-9)
        for coverage in COVERAGES
    ]
    return np.mean(relative)


def _score(coverage, scores, deviations):
    """Mean interval score of intervals whose half width is the quantile of scores (n, 4)."""
    half = np.sort(scores, axis=0)[_rank(coverage, len(scores))]
    outside = np.maximum(scores - half, 0.0)
    return np.mean(2 * deviations * (half + outside / (1 - coverage)))


def _scores(matches, form):
    """|error - bias * deviation| / deviation (n, 4)."""
    ratio = (matches.true_boxes - matches.boxes) / _deviations(matches, form)
    return np.abs(ratio - form.bias)


def _deviations(matches, form):
    sides = [np.asarray(v, "float32") for v in (matches.uncertainties, matches.boxes)]
    return ops.convert_to_numpy(form.deviations(*sides))


@contextlib.contextmanager
def _uncalibrated(model):
    """Within it the model has no calibration; afterwards that of before."""
    before, model.calibration = model.calibration, None
    try:
        yield
    finally:
        model.calibration = before


def _check(matches, class_names):
    count = len(matches.scores)
    if count < FEWEST:
        raise ValueError(
            f"Only {count} detections match an object; a calibration needs at least {FEWEST}, "
            "better 1000. Take more images, train the detector longer, or lower `score_threshold`."
        )
    if count < FEW:
        off = 2 * np.sqrt(0.9 * 0.1 / (count + 2))
        warnings.warn(
            f"Only {count} detections match an object: intervals for a coverage of 90 % may hold "
            f"{100 * off:.0f} points more or less of the true sides. Calibrate on more images.",
            stacklevel=3,
        )
    without = [n for i, n in enumerate(class_names) if not (matches.classes == i).any()]
    if without:
        warnings.warn(
            f"No detection of {', '.join(map(str, without))} matches an object: their intervals "
            "rest on the errors of other classes.",
            stacklevel=3,
        )
