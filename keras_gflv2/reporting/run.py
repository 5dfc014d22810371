"""Everything that the report says of one detector, as plain data for JSON.

In: a detector, its dataset, what it found there (`EvaluatedImage`) and its COCO metrics. Out: a
dictionary of lists, texts and numbers, where None stands for what cannot be measured.
"""

import numpy as np

from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.coco import coco_metrics
from keras_gflv2.evaluation.curves import (
    RECALLS,
    THRESHOLDS,
    confusion_matrices,
    outcomes_of,
    precision_recall,
    score_reliability,
    threshold_curves,
)
from keras_gflv2.evaluation.errors import all_errors, ap_costs
from keras_gflv2.evaluation.uncertainty import matched_sides, uncertainty_of
from keras_gflv2.reporting.gallery import gallery_of
from keras_gflv2.reporting.web import plain

ALL = "all classes"
EVERY_RECALL = 2  # of the 101 recalls that are drawn
CONFUSION_THRESHOLDS = np.round(np.arange(0.05, 1, 0.05), 2)


def run_of(name, model, dataset, images, metrics=None):
    """What the report says of one detector on one dataset.

    Hits, errors and thresholds are those of an IoU of 0.5.

    Args:
        name: how the report calls the detector.
        model: a dense detector or a `TestTimeAugmentation`.
        dataset: what it was evaluated on, as in `evaluate_coco`. It is passed over once more, for
            the pictures.
        images: list of `EvaluatedImage`, from `detect_dataset(model, dataset)`.
        metrics: `coco_metrics(images, class_names, sizes=True)`, if it has been computed.

    Returns:
        Dictionary for `write_report`, which `json.dump` can write.

    Raises:
        ImportError: pycocotools is not installed.
    """
    names = [str(name) for name in class_names_of(model, dataset)]
    metrics = metrics or coco_metrics(images, names, sizes=True)
    matches, errors = all_errors(images, names)
    outcomes = outcomes_of(images, matches, len(names))
    f1 = _f1(outcomes, names)
    best = f1["best"][-1]["threshold"] or 0.0
    return plain(
        {
            "name": name,
            "class_names": names,
            "num_images": len(images),
            "num_objects": int(outcomes.num_objects.sum()),
            "num_detections": sum(len(image.boxes) for image in images),
            "metrics": {k: _measured(v) for k, v in metrics.items() if not isinstance(v, dict)},
            "classes": _classes(metrics, outcomes, names),
            "precision_recall": _precision_recall(outcomes, names),
            "f1": f1,
            "confusion": _confusion(images, matches, len(names), best),
            "reliability": _reliability(outcomes),
            "sides": _sides(model, images, names),
            "errors": ap_costs(images, matches, errors, len(names)),
            "gallery": gallery_of(model, dataset, images, names, best),
        }
    )


def _classes(metrics, outcomes, names):
    """Rows of the table of classes: their objects, and APs by IoU and size."""
    columns = {
        "AP": "per_class",
        "AP50": "per_class_AP50",
        "small": "per_class_APs",
        "medium": "per_class_APm",
        "large": "per_class_APl",
    }
    return [
        {"class": name, "objects": int(count)}
        | {column: _measured(metrics[key][name]) for column, key in columns.items()}
        for name, count in zip(names, outcomes.num_objects)
    ]


def _precision_recall(outcomes, names):
    """Lines of the diagram: one for each class that has objects, and their mean."""
    lines = precision_recall(outcomes)
    measured = ~np.isnan(lines).any(axis=1)
    rows = [(name, line) for name, line, has in zip(names, lines, measured) if has]
    if measured.any():
        rows.append((ALL, lines[measured].mean(axis=0)))
    return {
        "recall": RECALLS[::EVERY_RECALL],
        "lines": [{"class": name, "precision": line[::EVERY_RECALL]} for name, line in rows],
    }


def _f1(outcomes, names):
    """F1 over thresholds for each class and for all, and where each is best."""
    curves = threshold_curves(outcomes)
    best = []
    for row, name in enumerate([*names, ALL]):
        f1 = curves["f1"][row]
        at = None if np.isnan(f1).all() else int(np.nanargmax(f1))
        values = {k: None if at is None else curves[k][row][at] for k in curves}
        threshold = None if at is None else THRESHOLDS[at]
        best.append({"class": name, "threshold": threshold, **values})
    return {"thresholds": THRESHOLDS, "f1": curves["f1"], "best": best}


def _confusion(images, matches, num_classes, best):
    """Cells [threshold index, true class, predicted class, count] that are not empty."""
    thresholds = sorted({*CONFUSION_THRESHOLDS.tolist(), best})
    tables = confusion_matrices(images, matches, num_classes, thresholds)
    cells = np.argwhere(tables)
    return {
        "thresholds": thresholds,
        "best": thresholds.index(best),
        "cells": np.column_stack([cells, tables[tuple(cells.T)]]),
    }


def _reliability(outcomes):
    rows, error = score_reliability(outcomes)
    return {"rows": rows, "expected_calibration_error": error}


def _sides(model, images, names):
    """The report of the uncertainties of the sides, or a text that says why there is none."""
    calibration = getattr(getattr(model, "model", model), "calibration", None)
    try:
        matches = matched_sides(images, names, score_threshold=0.0)
    except ValueError as error:
        return {"missing": str(error)}
    table = calibration and calibration.get_config()
    return {"calibrated": table is not None, **uncertainty_of(matches, table)}


def _measured(value):
    """pycocotools writes -1 for what there is nothing of."""
    return None if value == -1 else value
