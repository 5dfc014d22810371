"""Curves and tables over score thresholds: precision, recall, F1, confusions, reliability.

In: lists of `EvaluatedImage` and `ImageMatches`. Out: numpy arrays.
"""

import dataclasses

import numpy as np

from keras_gflv2.evaluation.coco import xywh

RECALLS = np.linspace(0, 1, 101)  # of COCO
THRESHOLDS = np.round(np.arange(100) / 100, 2)


@dataclasses.dataclass
class Outcomes:
    """The detections that count, over all images, and how many objects there are to find.

    Attributes:
        classes: (D,) class index of each detection.
        scores: (D,) confidence.
        hits: (D,) whether it found an object.
        num_objects: (C,) of each class, without ignored ones.
    """

    classes: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    num_objects: np.ndarray


def outcomes_of(images, matches, num_classes):
    """The `Outcomes` of images and their `ImageMatches` at one IoU threshold."""

    def of_all(name):
        return np.concatenate([getattr(i, name)[m.counts] for i, m in zip(images, matches)])

    objects = np.concatenate([image.true_classes[~image.true_ignored] for image in images])
    return Outcomes(
        classes=of_all("classes"),
        scores=of_all("scores"),
        hits=np.concatenate([m.is_hit[m.counts] for m in matches]),
        num_objects=np.bincount(objects.astype(int), minlength=num_classes),
    )


def precision_at_recalls(scores, hits, num_objects):
    """Precision at `RECALLS`, each the best at this recall or a greater one, as COCO computes it.

    Args:
        scores: (D,) of the detections of one class.
        hits: (D,) whether each found an object.
        num_objects: of the class.

    Returns:
        Array (101,), whose mean is the average precision; NaN where there is no object.
    """
    if not num_objects:
        return np.full(len(RECALLS), np.nan)
    found = np.cumsum(hits[np.argsort(-scores, kind="stable")])
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    index = np.searchsorted(found / num_objects, RECALLS, side="left")
    return np.append(best, 0.0)[index]


def precision_recall(outcomes):
    """`precision_at_recalls` of each class, an array (C, 101)."""
    rows = [
        precision_at_recalls(outcomes.scores[own], outcomes.hits[own], count)
        for own, count in _of_classes(outcomes)
    ]
    return np.array(rows)


def threshold_curves(outcomes, thresholds=THRESHOLDS):
    """Precision, recall and F1 of the detections with scores above thresholds.

    Args:
        outcomes: `Outcomes`.
        thresholds: (T,) rising.

    Returns:
        Dictionary of "precision", "recall" and "f1", arrays (C + 1, T): of each class, and of all
        classes pooled. F1 is 2 * hits / (detections + objects); NaN where there is neither.
    """
    counts = [_counts_above(outcomes.scores[own], outcomes.hits[own], thresholds)
              for own, _ in _of_classes(outcomes)]  # fmt: skip
    hits, found = np.array(counts).transpose(1, 0, 2)  # (C, T) each
    hits, found = (np.vstack([v, v.sum(axis=0)]) for v in (hits, found))
    objects = np.append(outcomes.num_objects, outcomes.num_objects.sum())[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "precision": hits / found,
            "recall": hits / objects,
            "f1": 2 * hits / (found + objects),
        }


def _counts_above(scores, hits, thresholds):
    """Hits and detections (2, T) above thresholds."""
    order = np.argsort(-scores, kind="stable")
    thresholds = np.asarray(thresholds, scores.dtype)  # as `image.above` compares
    found = np.searchsorted(-scores[order], -thresholds, side="left")
    return np.append(0, np.cumsum(hits[order]))[found], found


def score_reliability(outcomes, bins=10):
    """How often detections of a score are right (a reliability diagram; Guo et al., 2017).

    Args:
        outcomes: `Outcomes`.
        bins: scores of 0..1 are cut into so many equal parts.

    Returns:
        Tuple of a list of dictionaries "score" (mean), "precision" (share of hits), "count", one
        for each part that is not empty; and the expected calibration error, the mean distance of
        score and precision over all detections (NaN without any).
    """
    index = np.minimum((outcomes.scores * bins).astype(int), bins - 1)
    rows = []
    for part in range(bins):
        own = index == part
        if own.any():
            score, precision = outcomes.scores[own].mean(), outcomes.hits[own].mean()
            rows.append(
                {"score": float(score), "precision": float(precision), "count": int(own.sum())}
            )
    total = sum(row["count"] for row in rows)
    error = sum(row["count"] * abs(row["score"] - row["precision"]) for row in rows)
    return rows, (error / total if total else float("nan"))


def confusion_matrices(images, matches, num_classes, thresholds, iou_threshold=0.5):
    """How often an object of one class was detected as another, above thresholds.

    Detections that found an object of their class keep it. The others, best first, take the object
    of another class that they overlap most, by `iou_threshold` at least, if nobody has it.

    Args:
        images: list of `EvaluatedImage`.
        matches: their `ImageMatches`, at the same IoU threshold.
        num_classes: C.
        thresholds: (T,) scores; detections above take part.
        iou_threshold: smallest IoU of a confusion.

    Returns:
        Integer array (T, C + 1, C + 1): true class, predicted class. The last row counts detections
        without an object, the last column objects without a detection.
    """
    tables = np.zeros((len(thresholds), num_classes + 1, num_classes + 1), int)
    for image, match in zip(images, matches):
        ious = pairwise_iou(image.boxes, image.true_boxes)
        other = (image.classes[:, None] != image.true_classes) & ~image.true_ignored
        ious = np.where(other & (ious >= iou_threshold), ious, 0.0)
        for table, threshold in zip(tables, thresholds):
            _add_confusions(table, image, match, ious, threshold)
    return tables


def _add_confusions(table, image, match, ious, threshold):
    above = match.counts & (image.scores > float(threshold))
    hits = above & match.is_hit
    is_free = ~image.true_ignored
    is_free[match.objects[hits]] = False
    np.add.at(table, (image.classes[hits], image.classes[hits]), 1)
    rest = np.flatnonzero(above & ~hits)
    for row in rest[np.argsort(-image.scores[rest], kind="stable")]:
        true_class = -1
        if ious[row].any():
            overlap = ious[row] * is_free
            best = overlap.argmax()
            if overlap[best] > 0:
                is_free[best], true_class = False, image.true_classes[best]
        table[true_class, image.classes[row]] += 1
    np.add.at(table[:, -1], image.true_classes[is_free], 1)


def pairwise_iou(boxes, others):
    """IoU (m, n) of boxes (m, 4) and others (n, 4), xyxy, as pycocotools computes it."""
    from pycocotools import mask

    if not len(boxes) or not len(others):
        return np.zeros((len(boxes), len(others)))
    boxes, others = (np.array([xywh(box) for box in v], "float64") for v in (boxes, others))
    return mask.iou(boxes, others, np.zeros(len(others), "uint8"))


def _of_classes(outcomes):
    """For each class the mask of its detections, and how many objects it has."""
    for index, count in enumerate(outcomes.num_objects):
        yield outcomes.classes == index, count
