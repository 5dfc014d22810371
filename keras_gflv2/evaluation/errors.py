"""What kind of error each detection is, and how much AP each kind costs.

In: a list of `EvaluatedImage`. Out: kinds as arrays, costs as numbers. After TIDE (Bolya, Foley,
Hays, Hoffman: "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020).
"""

import dataclasses

import numpy as np

from keras_gflv2.evaluation.coco import coco_matches
from keras_gflv2.evaluation.curves import (
    Outcomes,
    outcomes_of,
    pairwise_iou,
    precision_recall,
)

# Of detections, in the order of the paper; "missed" is of objects.
DETECTION_KINDS = ("classification", "localization", "both", "duplicate", "background")
KINDS = (*DETECTION_KINDS, "missed")
HIT, NOT_COUNTED = "hit", ""


@dataclasses.dataclass
class ImageErrors:
    """What is right and wrong in an image.

    Attributes:
        kinds: (m,) for each detection one of `DETECTION_KINDS`, "hit", or "" for what does not
            count (see `ImageMatches.counts`).
        objects: (m,) index of the object that it found or comes nearest to: for "localization" and
            "duplicate" of its class, for "classification" of another one; -1 for none.
        ious: (m,) IoU with that object.
        found: (n,) whether a detection found the object.
        missed: (n,) whether an object is neither found nor the object of a classification or
            localization error.
    """

    kinds: np.ndarray
    objects: np.ndarray
    ious: np.ndarray
    found: np.ndarray
    missed: np.ndarray


def errors_of(images, matches, iou_threshold=0.5, background_threshold=0.1):
    """The kind of error of each detection and object (TIDE, section 2.2).

    With the IoU with objects that count, a detection that found none is an error of
    - localization, if it overlaps an object of its class by 0.1 to 0.5,
    - else of classification, if it overlaps one of another class by 0.5 or more,
    - else a duplicate, if it overlaps one of its class by 0.5 or more: a better one has it,
    - else background, if it overlaps no object by more than 0.1,
    - else of both classification and localization.

    Args:
        images: list of `EvaluatedImage`.
        matches: their `ImageMatches`, at the same IoU threshold.
        iou_threshold: smallest IoU of a hit (0.5 above).
        background_threshold: largest IoU of background (0.1 above).

    Returns:
        List of `ImageErrors`, one an image.
    """
    thresholds = iou_threshold, background_threshold
    return [_errors(image, match, *thresholds) for image, match in zip(images, matches)]


def _errors(image, match, iou_threshold, background_threshold):
    kinds = np.where(match.counts, HIT, NOT_COUNTED).astype("<U14")
    objects = np.where(match.is_hit, match.objects, -1)
    counts = ~image.true_ignored
    all_ious = pairwise_iou(image.boxes, image.true_boxes) * counts
    is_same = image.classes[:, None] == image.true_classes
    for row in np.flatnonzero(match.counts & ~match.is_hit):
        kinds[row], objects[row] = _kind(
            all_ious[row], is_same[row], iou_threshold, background_threshold
        )
    ious = np.array([0.0 if j < 0 else all_ious[i, j] for i, j in enumerate(objects)])
    found, fixable = (np.zeros(len(counts), bool) for _ in range(2))
    found[objects[kinds == HIT]] = True
    fixable[objects[np.isin(kinds, ("classification", "localization"))]] = True
    return ImageErrors(kinds, objects, ious, found, counts & ~found & ~fixable)


def _kind(ious, is_same, iou_threshold, background_threshold):
    """Kind of an error with the IoUs (n,) with objects, and the object that it is about."""
    if not len(ious):
        return "background", -1
    same, other = ious * is_same, ious * ~is_same
    if background_threshold <= same.max() < iou_threshold:
        return "localization", same.argmax()
    if other.max() >= iou_threshold:
        return "classification", other.argmax()
    if same.max() >= iou_threshold:
        return "duplicate", same.argmax()
    if ious.max() <= background_threshold:
        return "background", -1
    return "both", ious.argmax()


def ap_costs(images, matches, errors, num_classes):
    """How much the AP would rise if all errors of one kind were mended (TIDE, section 2.3).

    Detections with localization and classification errors get the box, or the class, of their
    object; where it has been found, or several would find it, the best one stays and the others are
    removed. Other detections are removed; missed objects no longer count. A class that is left
    without objects has an AP of 1 if it has no detections either, else of 0.

    Args:
        images, matches, errors: of one list of images, at one IoU threshold.
        num_classes: C.

    Returns:
        Dictionary of "AP" (at that IoU threshold), "costs" (for each of `KINDS`, by how much the AP
        would rise), "counts" (for each of `KINDS`, how many) and "false_positives" and
        "false_negatives" (likewise for all detections without an object, and all objects without a
        detection). APs are NaN if there are no objects.
    """
    before = outcomes_of(images, matches, num_classes)
    average = _average(before, before.num_objects > 0)

    def gain(outcomes):
        return max(_average(outcomes, before.num_objects > 0) - average, 0.0)

    kinds = np.concatenate([e.kinds[m.counts] for e, m in zip(errors, matches)])
    mended = {kind: _without(before, kinds == kind) for kind in DETECTION_KINDS}
    for kind in ("classification", "localization"):
        mended[kind] = _with_hits(mended[kind], _repaired(images, errors, kind))
    mended["missed"] = _with_fewer_objects(before, images, [e.missed for e in errors])
    unfound = [~e.found & ~image.true_ignored for image, e in zip(images, errors)]
    missed = sum(int(e.missed.sum()) for e in errors)
    return {
        "AP": average,
        "costs": {kind: gain(mended[kind]) for kind in KINDS},
        "counts": {kind: int((kinds == kind).sum()) for kind in DETECTION_KINDS}
        | {"missed": missed},
        "false_positives": gain(_without(before, ~before.hits)),
        "false_negatives": gain(_with_fewer_objects(before, images, unfound)),
    }


def _average(outcomes, is_measured):
    """Mean of the average precisions of the classes (C,) that had objects; see `ap_costs`."""
    averages = precision_recall(outcomes).mean(axis=-1)
    is_empty = np.bincount(outcomes.classes, minlength=len(averages)) == 0
    averages = np.where(outcomes.num_objects == 0, is_empty, averages)
    return float(averages[is_measured].mean()) if is_measured.any() else float("nan")


def _repaired(images, errors, kind):
    """Class and score of the best detection of each object not found that has one of a kind."""
    repaired = []
    for image, e in zip(images, errors):
        rows = np.flatnonzero(e.kinds == kind)
        taken = set(np.flatnonzero(e.found))
        for row in rows[np.argsort(-image.scores[rows], kind="stable")]:
            if e.objects[row] not in taken:
                taken.add(e.objects[row])
                repaired.append((image.true_classes[e.objects[row]], image.scores[row]))
    return repaired


def _without(outcomes, removed):
    kept = {name: getattr(outcomes, name)[~removed] for name in ("classes", "scores", "hits")}
    return dataclasses.replace(outcomes, **kept)


def _with_hits(outcomes, repaired):
    classes, scores = np.reshape(repaired, (-1, 2)).T
    return Outcomes(
        classes=np.append(outcomes.classes, classes.astype(int)),
        scores=np.append(outcomes.scores, scores),
        hits=np.append(outcomes.hits, np.ones(len(scores), bool)),
        num_objects=outcomes.num_objects,
    )


def _with_fewer_objects(outcomes, images, removed):
    classes = np.concatenate([image.true_classes[own] for image, own in zip(images, removed)])
    fewer = np.bincount(classes.astype(int), minlength=len(outcomes.num_objects))
    return dataclasses.replace(outcomes, num_objects=outcomes.num_objects - fewer)


def all_errors(images, class_names, iou_threshold=0.5):
    """`ImageMatches` and `ImageErrors` of images, two lists."""
    matches = coco_matches(images, class_names, iou_threshold)
    return matches, errors_of(images, matches, iou_threshold)
