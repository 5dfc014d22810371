"""Checks of the annotations of each split, without looking at a picture."""

import difflib
import itertools
import re

import numpy as np

from keras_gflv2.data.checks.report import Finding, counted
from keras_gflv2.data.records import MESSAGES

FEW_BOXES = 10
OVERLAP = 0.9  # IoU from which two boxes are drawn around one object
# Kinds of repairs, see `records.MESSAGES`, after which a training learns something else.
SPOILING = ("corner_boxes", "transposed_boxes")
OF_NAMES = ("repaired_names", "root_categories", "exif_upright", "seeded_split", "missing_labels")
UNIMPORTANT = (*OF_NAMES, "duplicate_boxes")
REPAIRED_BOXES = ("empty_boxes", "non_finite_boxes", "outside_boxes", "clipped_boxes")
MANY_REPAIRED = 0.1  # part of the boxes from which something is wrong with all


def count(annotations):
    """Counts of one split, as `DataReport.counts` has them."""
    names, records = annotations.class_names, annotations.records
    boxes, images = (np.zeros(len(names), int) for _ in range(2))
    for record in records:
        classes = record.classes[record.ignored == 0]
        boxes += np.bincount(classes, minlength=len(names))
        images += np.bincount(np.unique(classes), minlength=len(names))
    return {
        "images": len(records),
        "images_without_boxes": sum(len(record.boxes) == 0 for record in records),
        "boxes": int(boxes.sum()),
        "ignored": int(sum(record.ignored.sum() for record in records)),
        "classes": dict(zip(names, boxes.tolist())),
        "images_of_class": dict(zip(names, images.tolist())),
    }


def readings(parts):
    """Splits that were read together, as `validation_fraction` divides one reading.

    Args:
        parts: {split: `Annotations`}.

    Returns:
        List of dictionaries {split: `Annotations`} with one report each.
    """
    found = []
    for split, annotations in parts.items():
        same = (other for other in found if _report(other) is annotations.report)
        group = next(same, None)
        if group is None:
            found.append({split: annotations})
        else:
            group[split] = annotations
    return found


def _report(reading):
    return next(iter(reading.values())).report


def _of_reading(reading):
    return _of(next(iter(reading))) if len(reading) == 1 else ""


def find_faults(reading):
    """Images that cannot be loaded at all, of one of `readings`."""
    split = next(iter(reading)) if len(reading) == 1 else None
    faults = _report(reading).faults or []
    missing = [error for error in faults if isinstance(error, FileNotFoundError)]
    others = [error for error in faults if not isinstance(error, FileNotFoundError)]
    missing, others = (list(dict.fromkeys(map(str, errors))) for errors in (missing, others))
    if missing:
        yield Finding(
            "error",
            "missing_files",
            _of(split) + counted(len(missing), "file is missing", "files are missing"),
            missing,
            "Training would stop at the first: add the files, or remove their entries.",
        )
    if others:
        yield Finding(
            "error",
            "unreadable",
            _of(split)
            + counted(len(others), "image or annotation", "images or annotations")
            + " cannot be read",
            others,
            "Training would stop at the first: correct or remove them.",
        )


def find_repairs(reading):
    """What the reader repaired, dropped or guessed, of one of `readings`."""
    report, of = _report(reading), _of_reading(reading)
    records = [record for part in reading.values() for record in part.records]
    total = max(sum(len(record.boxes) for record in records), 1)
    for key, number in report.counts.items():
        if not number or key in UNIMPORTANT:
            continue
        is_bad = key in REPAIRED_BOXES and number > MANY_REPAIRED * total
        yield Finding(
            "error" if key in SPOILING or is_bad else "warning",
            key,
            f"{of}{MESSAGES[key].format(count=number)}",
            list(report.files[key]),
            images=_places(reading, report.files[key]),
        )
    if report.counts["missing_labels"]:
        yield Finding(
            "note",
            "missing_labels",
            of + MESSAGES["missing_labels"].format(count=report.counts["missing_labels"]),
            list(report.files["missing_labels"]),
        )


def find_repeated_boxes(split, annotations):
    """Boxes around one object: repeated, nearly repeated, or of two classes."""
    repeated, conflicting, images = [], [], {"repeated": [], "conflicting": []}
    names = annotations.class_names
    for index, record in enumerate(annotations.records):
        for first, second in _overlapping(record):
            labels = [names[record.classes[row]] for row in (first, second)]
            kind = "repeated" if labels[0] == labels[1] else "conflicting"
            items = repeated if kind == "repeated" else conflicting
            items.append(f"{record.name} ({', '.join(dict.fromkeys(labels))})")
            images[kind].append((split, index))
    if repeated:
        yield Finding(
            "warning",
            "repeated_boxes",
            _of(split)
            + counted(len(repeated), "box repeats", "boxes repeat")
            + f" another one of the same class (IoU above {OVERLAP})",
            repeated,
            "Each counts as an object of its own: remove them.",
            images["repeated"],
        )
    if conflicting:
        yield Finding(
            "warning",
            "conflicting_boxes",
            _of(split)
            + counted(len(conflicting), "box repeats", "boxes repeat")
            + " another one with a different class",
            conflicting,
            "One of the two labels is wrong, unless objects have several.",
            images["conflicting"],
        )


def _overlapping(record):
    """Pairs of rows whose boxes overlap by more than `OVERLAP`; each row as the second once."""
    boxes = record.boxes.astype("float64")
    rows = np.flatnonzero(record.ignored == 0)
    if len(rows) < 2:
        return []
    # Boxes that overlap so much begin next to each other: compare with few neighbors only.
    order = rows[np.argsort(boxes[rows, 0], kind="stable")]
    pairs = {}
    for place, first in enumerate(order):
        limit = boxes[first, 0] + (1 - OVERLAP) * (boxes[first, 2] - boxes[first, 0])
        for second in order[place + 1 :]:
            if boxes[second, 0] > limit:
                break
            if _iou(boxes[first], boxes[second]) > OVERLAP:
                pairs.setdefault(max(first, second), (min(first, second), max(first, second)))
    return list(pairs.values())


def _iou(one, other):
    shared = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = np.maximum(shared, 0).prod()
    areas = (one[2:] - one[:2]).prod() + (other[2:] - other[:2]).prod()
    return shared / max(areas - shared, 1e-9)


def find_class_problems(counts, class_names):
    """Classes with too few boxes, none at all, or two spellings.

    Args:
        counts: {split: what `count` returns}.
        class_names: of all splits.
    """
    training = next(iter(counts))
    boxes = {split: of_split["classes"] for split, of_split in counts.items()}
    of_training = boxes[training]
    if not sum(of_training.values()):
        yield Finding(
            "error",
            "no_objects",
            f"{_of(training)}no image has an object",
            advice="A detector learns from it to find nothing: check the annotations.",
        )
        return
    rare = [name for name in class_names if 0 < of_training.get(name, 0) < FEW_BOXES]
    if rare:
        yield Finding(
            "warning",
            "rare_classes",
            _of(training)
            + counted(len(rare), "class has", "classes have")
            + f" fewer than {FEW_BOXES} boxes",
            [f"{name} ({of_training[name]})" for name in rare],
            "They can hardly be learned: label more of them, or leave them out.",
        )
    for split, of_split in boxes.items():
        unseen = [n for n, number in of_split.items() if number and not of_training.get(n)]
        if unseen:
            yield Finding(
                "error",
                "classes_without_training",
                _of(split)
                + counted(len(unseen), "class has", "classes have")
                + f" boxes here and none in {training}",
                [f"{name} ({of_split[name]})" for name in unseen],
                "They are scored and cannot be found: divide the images anew.",
            )
        unscored = [n for n, number in of_training.items() if number and not of_split.get(n)]
        if unscored and split != training:
            yield Finding(
                "warning",
                "classes_without_validation",
                _of(split) + counted(len(unscored), "class has", "classes have") + " no box here",
                unscored,
                "Their AP cannot be measured.",
            )
    unused = [n for n in class_names if not any(of.get(n) for of in boxes.values())]
    if unused:
        message = counted(len(unused), "class has", "classes have") + " no box"
        yield Finding("warning", "unused_classes", message, unused)
    similar = list(_similar(class_names))
    if similar:
        yield Finding(
            "warning",
            "similar_names",
            "classes whose names differ by little may be one",
            similar,
            "Give them one name.",
        )


def _similar(names):
    for one, other in itertools.combinations(names, 2):
        folded = [re.sub(r"[\s_-]+", " ", name.lower()).strip() for name in (one, other)]
        is_plural = folded[0] + "s" == folded[1] or folded[1] + "s" == folded[0]
        # Numbers tell classes apart; so many names cannot all be compared letter by letter.
        is_typed = len(names) <= 200 and not any(letter.isdigit() for letter in one + other)
        is_near = is_typed and difflib.SequenceMatcher(None, *folded).ratio() > 0.9
        if folded[0] == folded[1] or is_plural or is_near:
            yield f"{one!r} and {other!r}"


def _of(split):
    return f"{split}: " if split else ""


def _places(reading, names):
    return [
        (split, index)
        for split, annotations in reading.items()
        for index, record in enumerate(annotations.records)
        if record.name in names
    ]
