"""What every reader of annotations produces: one `Record` a picture, checked and repaired.

Nothing is lost silently: what is repaired or guessed is counted in a `Report`, warned of once, and
carried by the dataset as `ds.report`.
"""

import contextlib
import dataclasses
import os
import warnings

import numpy as np

from keras_gflv2 import images

# Annotations that exceed the image by rounding alone are clipped without a word.
TOLERANCE = 0.01

# Kinds of boxes that `invalid_boxes="error"` refuses.
INVALID_BOXES = {
    "empty_boxes": "dropped {count} boxes with x2 <= x1 or y2 <= y1",
    "non_finite_boxes": "dropped {count} boxes with values that are not finite",
    "outside_boxes": "dropped {count} boxes that lie outside their image",
    "clipped_boxes": "clipped {count} boxes that reach beyond their image",
}
MESSAGES = {
    **INVALID_BOXES,
    "duplicate_boxes": "kept {count} boxes that repeat another box and class of their image; "
    "remove them unless they are meant, for each counts as an object of its own",
    "corner_boxes": "read {count} boxes as [x, y, width, height] that reach beyond their image but "
    "fit as [x1, y1, x2, y2]; if the file holds corners, convert its boxes",
    "transposed_boxes": "cut or dropped {count} boxes that reach beyond their image but fit with x "
    "and y exchanged, as all others do; if the file holds [y, x, y, x], exchange them",
    "size_mismatches": "used the image's own size where {count} annotations state another",
    "repeated_images": "left out {count} repeated entries of the list of images",
    "repeated_files": "kept {count} entries of files that are listed under several image ids; each "
    "has its own objects only and lacks those of the others, so merge them for training",
    "repaired_names": "found {count} files under other names than the annotations have",
    "numbered_classes": "named {count} classes by their numbers, for there is no list of names; "
    "pass `class_names`, or write a data.yaml",
    "missing_labels": "took {count} images without a file of labels for images without objects",
    "seeded_split": "chose {count} images by a hash of their names, for there is no list of the "
    "split",
    "root_categories": "left out {count} category that no object has and that is the "
    "'supercategory' of all others, as Roboflow adds it",
    "exif_upright": "turned {count} pictures upright as their EXIF orientation and their stated "
    "size say",
    "exif_guessed": "turned {count} pictures upright as their EXIF orientation says, as `detect` "
    "does; their annotations do not tell whether the boxes were drawn so",
    "exif_stored": "read {count} pictures as they are stored, not upright as their EXIF "
    "orientation says and `detect` shows them; if their boxes were drawn upright, turn the files "
    "or correct the sizes that the annotations state",
}
# What is known for certain is counted, but no reason to warn.
CERTAIN = {"exif_upright"}


@dataclasses.dataclass
class Record:
    """One picture and its objects.

    Attributes:
        image: path, encoded bytes, array, or a function without arguments that returns an array.
        name: the file name or id, for messages and `ds.file_names`.
        height, width: size in pixels, as the picture is read.
        boxes: float32 (N, 4), xyxy in pixels of the picture.
        classes: int32 (N,), 0..C-1.
        ignored: int32 (N,), 1 for COCO crowds and VOC's difficult objects.
        areas: float32 (N,), in square pixels.
        image_id: the source's own id, an int, a float or a string; else the running index.
        exif: whether the picture has to be turned as its EXIF orientation says.
    """

    image: object
    name: str
    height: int
    width: int
    boxes: np.ndarray
    classes: np.ndarray
    ignored: np.ndarray
    areas: np.ndarray
    image_id: int | float | str
    exif: bool = False

    @property
    def file(self):
        """The path, or the name where the picture is not a file, for messages."""
        return os.fspath(self.image) if isinstance(self.image, (str, os.PathLike)) else self.name


@dataclasses.dataclass
class Annotations:
    """What a reader found: one part of a dataset, before batches are made of it.

    Attributes:
        records: list of `Record`.
        class_names: list of str.
        report: the `Report` of reading them.
        category_ids: the source's own class ids in the order of `class_names`, or None.
    """

    records: list
    class_names: list
    report: "Report"
    category_ids: list | None = None


class Report:
    """Counts what was repaired while a dataset was read.

    Args:
        source: name of the annotation file or folder, for messages.
        invalid_boxes: `"drop"` repairs boxes and counts; `"error"` raises on the first one.
        keep_faults: whether an image that cannot be used is left out and its error kept in
            `faults`, as a check of the data wants; else the first one is raised.
    """

    def __init__(self, source, invalid_boxes="drop", keep_faults=False):
        if invalid_boxes not in ("drop", "error"):
            raise ValueError(
                '`invalid_boxes` must be "drop" (repair, count and warn) or "error" (raise). '
                f"Received: invalid_boxes={invalid_boxes!r}"
            )
        self.source = os.fspath(source)
        self.invalid_boxes = invalid_boxes
        self.counts = dict.fromkeys(MESSAGES, 0)
        self.files = {key: {} for key in MESSAGES}
        self.faults = [] if keep_faults else None
        self.all_transposed = True
        self._warned = set()

    @contextlib.contextmanager
    def keeping_faults(self):
        """Within it, an error of one image is kept where `keep_faults` asks for it."""
        try:
            yield
        except (OSError, ValueError) as error:
            if self.faults is None:
                raise
            self.faults.append(error)

    def read_each(self, entries, read):
        """`read(entry)` of all entries, without those whose error was kept."""
        found = []
        for entry in entries:
            with self.keeping_faults():
                found.append(read(entry))
        return found

    def add(self, key, name, count=1):
        """Counts `count` repairs of kind `key` in the file `name`."""
        if not count:
            return
        if key in INVALID_BOXES and self.invalid_boxes == "error":
            what = MESSAGES[key].format(count=count).split(" ", 1)[1]
            raise ValueError(
                f"{self.source}: {name} has {what}. Correct the annotation, or pass "
                '`invalid_boxes="drop"` to repair such boxes and count them.'
            )
        self.counts[key] += int(count)
        self.files[key][name] = True

    def warn(self):
        """Warns of everything that was repaired, once for each kind."""
        for key, count in self.counts.items():
            if count and key not in self._warned | CERTAIN:
                self._warned.add(key)
                names = list(self.files[key])
                shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                message = MESSAGES[key].format(count=count)
                warnings.warn(f"{self.source}: {message} ({shown})", stacklevel=6)

    def as_dict(self, records):
        """Returns the counts, also of images and boxes, and the files concerned."""
        return {
            "images": len(records),
            "boxes": int(sum(len(record.boxes) for record in records)),
            "images_without_boxes": sum(len(record.boxes) == 0 for record in records),
            **self.counts,
            "files": {key: list(names) for key, names in self.files.items() if names},
        }


def make_record(
    image, name, objects, report, *, image_id, stated_size=None, size=None, fractions=False
):
    """Checks one picture and its boxes.

    Args:
        image: see `Record`.
        name: file name or id for messages.
        objects: `(boxes, classes, ignored, areas)`; boxes are (N, 4) xyxy in pixels; areas may be
            None for the area of the box.
        report: the `Report` that counts repairs.
        image_id: see `Record`.
        stated_size: `(height, width)` as the annotation has it, None if it does not say.
        size: `(height, width)` where it is known already; else the image's header is read.
        fractions: whether boxes are fractions of the picture as it is read, not pixels.

    Returns:
        A `Record` whose boxes lie inside the picture and have a positive area.

    Raises:
        FileNotFoundError: the image file does not exist.
        ValueError: the image file is not an image or has too many pixels, or a box is invalid and
            the report is strict.
    """
    exif = False
    if size is None:
        label = None if isinstance(image, (str, os.PathLike)) else name
        *size, orientation = images.read_image_size(image, label)
        if orientation != 1:
            size, exif = orient(tuple(size), orientation, stated_size, name, report)
    height, width = size
    if height * width > images.MAX_PIXELS:
        raise ValueError(
            f"{report.source}: the image {name} has {width} x {height} pixels, more than the "
            f"{images.MAX_PIXELS} that are accepted. Make it smaller, or raise "
            "keras_gflv2.images.MAX_PIXELS if you trust it."
        )
    if stated_size is not None and tuple(stated_size) != (height, width):
        report.add("size_mismatches", name)
    boxes, classes, ignored, areas = objects
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)  # (N, 4)
    if fractions:
        boxes = boxes * [width, height, width, height]
    boxes, kept = repair_boxes(boxes, height, width, name, report)
    if areas is None:
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    else:
        areas = np.asarray(areas, "float64")[kept]
    classes = np.asarray(classes, "int32").reshape(-1)[kept]
    ignored = np.asarray(ignored, "int32").reshape(-1)[kept]
    different = set(zip(map(tuple, boxes.tolist()), classes.tolist(), ignored.tolist()))
    report.add("duplicate_boxes", name, len(boxes) - len(different))
    return Record(
        image=image,
        name=name,
        height=height,
        width=width,
        boxes=boxes.astype("float32"),
        classes=classes,
        ignored=ignored,
        areas=areas.astype("float32"),
        image_id=image_id,
        exif=exif,
    )


def orient(stored, orientation, stated, name, report):
    """Decides whether a picture with an EXIF orientation is turned upright.

    It is, for annotation tools and `detect` show it so, unless the annotation states the size that
    only the stored picture has.

    Args:
        stored: `(height, width)` of the stored pixels.
        orientation: EXIF orientation, 2..8.
        stated: `(height, width)` as the annotation has it, or None.
        name: name of the image for messages.
        report: the `Report` that counts.

    Returns:
        `(height, width)` as the picture is to be read, and whether to turn it.
    """
    upright = stored[::-1] if orientation >= 5 else stored
    if upright != stored and stated == stored:
        report.add("exif_stored", name)
        return stored, False
    certain = upright != stored and stated == upright
    report.add("exif_upright" if certain else "exif_guessed", name)
    return upright, True


def repair_boxes(boxes, height, width, name, report):
    """Drops boxes that cannot be used and clips those that reach out of the image.

    Args:
        boxes: float (N, 4), xyxy in pixels.
        height, width: size of the image in pixels.
        name: name of the image for messages.
        report: the `Report` that counts.

    Returns:
        `(boxes, kept)`: the clipped boxes (M, 4) and the bool mask (N,) of those kept.
    """
    finite = np.isfinite(boxes).all(axis=-1)
    report.add("non_finite_boxes", name, (~finite).sum())
    boxes = np.where(finite[:, None], boxes, 0.0)
    positive = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    report.add("empty_boxes", name, (finite & ~positive).sum())
    limits = np.array([width, height, width, height], "float64")
    clipped = np.clip(boxes, 0, limits)
    _count_transposed(boxes, limits, name, report)
    inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    report.add("outside_boxes", name, (finite & positive & ~inside).sum())
    kept = finite & positive & inside
    changed = (np.abs(clipped - boxes) > TOLERANCE).any(axis=-1)
    report.add("clipped_boxes", name, (kept & changed).sum())
    return clipped[kept], kept


def _count_transposed(boxes, limits, name, report):
    """Counts boxes that leave their image and would not with x and y exchanged."""
    beyond = (boxes > limits + 1).any(axis=-1)
    fits = (boxes >= -1).all(axis=-1) & (boxes[:, [1, 0, 3, 2]] <= limits + 1).all(axis=-1)
    report.all_transposed &= bool(fits.all())
    report.add("transposed_boxes", name, (beyond & fits).sum())


def compare_records(records, report):
    """Counts what no picture shows alone; arguments and errors as of `check_records`."""
    if not records:
        raise ValueError(f"{report.source}: the dataset is empty. It lists no image.")
    boxes = np.concatenate([record.boxes for record in records])
    # As [x, y, width, height] or as corners read as such, fractions stay below 2.
    largest = boxes.max(initial=0)
    if len(boxes) and (largest <= 1 + TOLERANCE or (largest <= 2 and (boxes % 1).any())):
        raise ValueError(
            f"{report.source}: the boxes must be in pixels, but they seem to be fractions of the "
            f"image: no coordinate is larger than {largest:.3g}. Multiply them by the width and "
            "height of their image."
        )
    # Of boxes that are drawn carelessly some leave the image in the other direction.
    if not report.all_transposed:
        report.counts["transposed_boxes"] = 0
        report.files["transposed_boxes"] = {}
    listed = {}
    for record in records:
        if isinstance(record.image, (str, os.PathLike)):
            listed.setdefault(record.file, []).append(record.name)
    for names in listed.values():
        if len(names) > 1:
            report.add("repeated_files", names[0], len(names))


def check_records(records, report, train):
    """Checks what no picture shows alone, and warns of all that the report has.

    Args:
        records: list of `Record`.
        report: the `Report` that counts, and that warns here of all it has.
        train: whether the records are for training.

    Raises:
        ValueError: the boxes are fractions of the picture.
    """
    compare_records(records, report)
    if train and all((record.ignored == 1).all() for record in records):
        warnings.warn(
            f"{report.source}: no image of the training data has an object, except for ignored "
            "ones. A detector learns from it to find nothing: check the annotations.",
            stacklevel=5,
        )
    report.warn()


def class_index(name, class_names, source):
    """Returns the index of a class name.

    Raises:
        ValueError: the name is not among `class_names`; names it, the file, and what is allowed.
    """
    try:
        return class_names.index(name)
    except ValueError:
        raise ValueError(
            f"{source} has an object of the unknown class {name!r}. "
            f"`class_names` allows: {list(class_names)}"
        ) from None


def check_class_names(class_names):
    """Returns `class_names` as a list of str without repetition, or raises a ValueError."""
    if isinstance(class_names, str):
        raise ValueError(f"`class_names` must be a list of names. Received: {class_names!r}")
    names = [str(name) for name in class_names]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"`class_names` must be names without repetition. Received: {names}")
    return names
