"""The check of a whole dataset: every check, over every split."""

import itertools
import os
import warnings

import numpy as np

from keras_gflv2.data.checks import (
    alignment,
    annotations,
    class_order,
    duplicates,
    pictures,
    sizes,
)
from keras_gflv2.data.checks.advice import suggest
from keras_gflv2.data.checks.report import SEVERITIES, DataReport, Finding, counted
from keras_gflv2.data.division import divide
from keras_gflv2.data.recognize import recognize
from keras_gflv2.data.records import Annotations, compare_records
from keras_gflv2.data.source import Source
from keras_gflv2.data.yolo import written_names
from keras_gflv2.data.yolo_layout import IMAGE_SUFFIXES
from keras_gflv2.images import resize_shape

STRIDES = (8, 16, 32, 64, 128)
FEW_VALIDATION = 20  # images, below which an AP says little
SHRUNK = 3.0  # times, from which small objects are better trained on tiles


def check(
    data,
    validation_data=None,
    *,
    validation_fraction=0.0,
    image_size=(800, 1333),
    reg_max=16,
    strides=STRIDES,
    pixels=True,
    progress=None,
):
    """Checks a dataset for what would spoil a training.

    It looks for images that are missing or broken, labels that cannot be read, boxes that were
    repaired, repeated or contradict each other, classes that are rare or named differently in two
    splits, boxes too small or too large for the detector, pictures that two splits share (also
    encoded anew, resized, mirrored or turned), boxes that do not fit their pictures, and more.

    ```python
    report = keras_gflv2.data.check("my_data", image_size=(512, 512))
    print(report)
    report.ok, report.of("shared_images"), report.as_dict()
    report.contact_sheet().save("found.jpg")
    ```

    Args:
        data: a folder or an annotation file, as `recognize` takes it; a `Source`; a dataset of one
            of the loaders; `Annotations`; or a dictionary {split: one of them}.
        validation_data: the same, of the images to validate on, where `data` has none.
        validation_fraction: part of `data` to validate on, as the loaders divide it.
        image_size: `(short, longest)` in pixels, at which the detector is to be trained.
        reg_max: last bin of a side's distribution; distances reach to `reg_max` strides.
        strides: of the levels of the detector.
        pixels: whether to read the pictures; the annotations alone are checked in seconds.
        progress: function of `(done, total)`, called after each picture.

    Returns:
        `DataReport`.

    Raises:
        FileNotFoundError, ValueError: the annotations as a whole cannot be read.
    """
    parts = _parts(data, validation_data, validation_fraction)
    findings, counts, boxes = _check_annotations(parts, image_size, reg_max, strides)
    features = class_order.box_features(parts)
    if pixels:
        looks = _look_at(parts, findings, progress)
        features = _with_colors(parts, looks)
        findings += duplicates.find_duplicates(parts, looks)
        for split, part in parts.items():
            findings += alignment.find_other_readings(split, part, looks[split])
            findings += alignment.find_other_pictures(split, part, looks[split])
    findings += duplicates.find_shared_files(parts)
    findings += class_order.find_differing_lists(parts, features)
    findings += class_order.find_exchanged(parts, features, counts)
    findings += class_order.find_transposed(features)
    findings += class_order.find_other_shares(counts)
    findings += _find_differing_name_files(data)
    findings += _find_unlisted(parts)
    return _report(parts, findings, counts, boxes, image_size, reg_max, strides)


def quick_check(parts, image_size=(800, 1333), reg_max=16, strides=STRIDES):
    """The part of `check` that takes no time, of data that is loaded already.

    Args:
        parts: {split: dataset of a loader, or `Annotations`}.
        image_size, reg_max, strides: as for `check`.

    Returns:
        `DataReport`.
    """
    parts = {split: _annotations(part) for split, part in parts.items()}
    findings, counts, boxes = _check_annotations(parts, image_size, reg_max, strides, quick=True)
    findings += duplicates.find_shared_files(parts)
    return _report(parts, findings, counts, boxes, image_size, reg_max, strides)


def _report(parts, findings, counts, boxes, image_size, reg_max, strides):
    findings = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    settings = {
        "image_size": list(image_size),
        "reg_max": reg_max,
        "strides": list(strides),
        "sources": {split or "all": part.report.source for split, part in parts.items()},
    }
    return DataReport(
        parts,
        findings,
        {split or "all": count for split, count in counts.items()},
        sizes.summarize(boxes, image_size, strides),
        suggest(parts, counts, boxes),
        settings,
    )


# === What is checked ===


def _parts(data, validation_data, fraction):
    """{split: `Annotations`}; the first is what is trained on."""
    parts = _read(data)
    if fraction:
        if len(parts) > 1 or validation_data is not None:
            raise ValueError("`validation_fraction` is for data without splits.")
        (whole,) = parts.values()
        return {
            subset: Annotations(
                divide(whole.records, fraction, subset),
                whole.class_names,
                whole.report,
                whole.category_ids,
            )
            for subset in ("train", "val")
        }
    if validation_data is not None:
        others = _read(validation_data)
        training = parts.get("train") or next(iter(parts.values()))
        validation = others.get("val") or next(iter(others.values()))
        parts = {"train": training, "val": validation}
    return parts


def _read(data):
    if isinstance(data, dict):
        return {split: _annotations(part) for split, part in data.items()}
    if isinstance(data, (str, os.PathLike)):
        sources = recognize(data).sources
        return {split: _annotations(source) for split, source in sources.items()}
    return {None: _annotations(data)}


def _annotations(data):
    """The `Annotations` of a `Source`, of a loader's dataset, or themselves."""
    if isinstance(data, Source):
        found = data.read(keep_faults=True)
        with found.report.keeping_faults():
            compare_records(found.records, found.report)
        return found
    found = getattr(data, "annotations", data)
    if not isinstance(found, Annotations):
        raise ValueError(
            "A check needs a folder, an annotation file or a dataset of keras_gflv2.data's loaders "
            f"in memory. Received: {type(data).__name__}"
        )
    return found


# === Groups of checks ===


def _check_annotations(parts, image_size, reg_max, strides, quick=False):
    """Findings in the annotations alone, counts of each split, and the boxes."""
    counts = {split: annotations.count(part) for split, part in parts.items()}
    boxes = sizes.boxes_at(parts, image_size)
    findings = []
    for reading in annotations.readings(parts):
        findings += annotations.find_faults(reading)
        findings += annotations.find_repairs(reading)
    for split, part in parts.items():
        if not quick:
            findings += annotations.find_repeated_boxes(split, part)
        findings += _find_empty(split, counts[split])
    names = list(dict.fromkeys(itertools.chain(*(p.class_names for p in parts.values()))))
    findings += annotations.find_class_problems(counts, names)
    findings += sizes.find_size_problems(boxes, parts, strides, reg_max)
    findings += _find_large_pictures(parts, image_size)
    return findings, counts, boxes


def _find_empty(split, count):
    of = f"{split}: " if split else ""
    if count["images"] and count["images_without_boxes"] > 0.5 * count["images"]:
        number = count["images_without_boxes"]
        yield Finding(
            "note",
            "images_without_boxes",
            f"{of}{number} of {count['images']} images have no object",
            advice="They teach what is background; too many slow a training down.",
        )
    if split == "val" and count["images"] < FEW_VALIDATION:
        yield Finding(
            "note",
            "few_validation_images",
            f"{of}an AP over {count['images']} images varies much",
        )
    if count["ignored"]:
        yield Finding(
            "note",
            "ignored_boxes",
            f"{of}{count['ignored']} boxes are crowds or difficult, and neither trained on nor "
            "scored",
        )


def _find_large_pictures(parts, image_size):
    items, images = [], []
    for split, part in parts.items():
        for index, record in enumerate(part.records):
            height, _ = resize_shape((record.height, record.width), image_size)
            if record.height > SHRUNK * height:
                items.append(f"{record.name} ({record.width} x {record.height})")
                images.append((split, index))
    if items:
        yield Finding(
            "note",
            "large_images",
            counted(len(items), "image is", "images are")
            + f" shrunk more than {SHRUNK:g} times for the training size",
            items,
            "Where objects become small, cut the images into tiles.",
            images,
        )


def _look_at(parts, findings, progress):
    """The looks of all pictures; those that cannot be read become a finding."""
    total = sum(len(part.records) for part in parts.values())
    tell = None if progress is None else lambda done: progress(done, total)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PIL, about files that it can read
        looks, broken = pictures.look_at(parts, tell)
    for split, messages in broken.items():
        if messages:
            findings.append(
                Finding(
                    "error",
                    "broken_images",
                    (f"{split}: " if split else "")
                    + counted(len(messages), "picture", "pictures")
                    + " cannot be decoded",
                    list(messages.values()),
                    "Training would stop at the first: replace or remove them.",
                )
            )
    return looks


def _with_colors(parts, looks):
    """{split: {class: (N, F)}} with what the boxes look like."""
    found = {}
    for split, part in parts.items():
        of_class = {}
        for record, look in zip(part.records, looks[split]):
            if look is None:
                continue
            count = len(look.features)
            for row, label, ignored in zip(
                look.features, record.classes[:count], record.ignored[:count]
            ):
                if not ignored:
                    of_class.setdefault(part.class_names[label], []).append(row)
        found[split] = {name: np.array(rows) for name, rows in of_class.items()}
    return found


def _find_differing_name_files(data):
    """Lists of names beside a YOLO dataset that contradict its data.yaml."""
    sources = list(data.values()) if isinstance(data, dict) else [data]
    if isinstance(data, (str, os.PathLike)):
        sources = list(recognize(data).sources.values())
    yolo = [s for s in sources if isinstance(s, Source) and s.kind == "yolo"]
    lists = written_names(yolo[0].path) if yolo else {}
    return class_order.find_differing_names(lists) if len(lists) > 1 else []


def _find_unlisted(parts):
    """Images in the folders of the listed ones that no annotation names."""
    listed = {
        os.path.abspath(record.file)
        for part in parts.values()
        for record in part.records
        if isinstance(record.image, (str, os.PathLike))
    }
    unlisted = []
    for folder in sorted({os.path.dirname(file) for file in listed}):
        for name in sorted(os.listdir(folder)):
            file = os.path.join(folder, name)
            if file not in listed and name.lower().endswith(IMAGE_SUFFIXES):
                unlisted.append(file)
    if unlisted:
        yield Finding(
            "note",
            "unlisted_images",
            counted(len(unlisted), "image in the folders has", "images in the folders have")
            + " no annotation and will not be used",
            unlisted,
        )
