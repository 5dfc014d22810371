"""YOLO datasets: data.yaml, a folder of images, and a text file of labels beside each image."""

import itertools
import math
import os
import pathlib

from keras_gflv2.data.files import read_text
from keras_gflv2.data.pipeline import dataset_of
from keras_gflv2.data.records import Annotations, Report, check_class_names, make_record
from keras_gflv2.data.takes_options import takes_options
from keras_gflv2.data.yolo_layout import NAME_FILES, yolo_layout

# Fractions may leave the image a little, and are cut; pixels are far beyond.
FRACTION_LIMIT = 2.0


@takes_options
def load_yolo(data, split=None, *, class_names=None, invalid_boxes="drop", options):
    """Loads a YOLO dataset as ultralytics, Roboflow, CVAT, Label Studio and Darknet lay it out.

    Labels are found by replacing the last `images` of a path by `labels`, else beside the image.
    Each line is a class and a box as fractions, `class x_center y_center width height`, or a class
    and the `x y` pairs of a polygon, of which the box around is taken. Images whose file of labels
    is empty or missing have no objects.

    ```python
    train_ds = keras_gflv2.data.load_yolo("coco8/data.yaml", "train", train=True)
    val_ds = keras_gflv2.data.load_yolo("coco8/data.yaml", "val")
    ```

    Args:
        data: path of a data.yaml, of Darknet's obj.data, or of the folder that has it. A folder
            without either is read by its folders `images` and `labels`; the names are those of its
            classes.txt.
        split: "train", "val" ("valid") or "test"; None for all images.
        class_names: names of the dataset's classes in the order wanted. By default its own order.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.
        options: the `LoaderOptions`.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes. `ds.category_ids` are the
        numbers in the labels in the order of the classes.

    Raises:
        FileNotFoundError: the data, a split or an image is missing, or all labels are.
        ValueError: a line cannot be read; the message names the file and the line.
    """
    report = Report(data, invalid_boxes)
    return dataset_of(read_yolo(data, split, report, class_names), options)


def read_yolo(data, split, report, class_names=None):
    """The `Annotations` of a YOLO dataset; arguments as in `load_yolo`."""
    layout = yolo_layout(data)
    images = layout.images(split)
    if not images:
        raise ValueError(f"{layout.source}: the dataset is empty. It lists no image.")
    labels = {image: _label_file(image) for image in images}
    of_any_split = itertools.chain(*layout.splits.values())
    if not any(labels.values()) and not any(map(_label_file, of_any_split)):
        raise FileNotFoundError(
            f"{layout.source}: none of its images has a file of labels, such as "
            f"{_expected_label(images[0])} for {images[0]}."
        )
    names = layout.names
    if names is None:
        count = 1 + max(map(_largest_class, filter(None, labels.values())), default=0)
        names = check_class_names(class_names or [f"class_{index}" for index in range(count)])
        report.add("numbered_classes", layout.source.name, 0 if class_names else count)
        class_names = None
    names = check_class_names(names)
    numbers = _numbers(names, class_names, layout.source)
    root = layout.source if layout.source.is_dir() else layout.source.parent

    def read(image):
        return _read_record(image, labels[image], root, layout, names, numbers, report)

    records = report.read_each(images, read)
    return Annotations(records, [names[number] for number in numbers], report, numbers)


def _numbers(names, class_names, source):
    """Numbers in the labels, in the order of the classes."""
    if class_names is None:
        return list(range(len(names)))
    class_names = check_class_names(class_names)
    unknown = [name for name in class_names if name not in names]
    if unknown:
        raise ValueError(
            f"`class_names` has {unknown}, which {source} does not define. Its classes: {names}"
        )
    return [names.index(name) for name in class_names]


def _read_record(image, label_file, root, layout, names, numbers, report):
    if not image.is_file():
        raise FileNotFoundError(
            f"The image file {image} does not exist, but {layout.source} lists it."
        )
    name = os.path.relpath(image, root)
    report.add("missing_labels", name, label_file is None)
    rows = read_labels(label_file, len(names), layout.keypoints) if label_file else []
    classes = []
    for number, line, _ in rows:
        if number not in numbers:
            allowed = {number: names[number] for number in numbers}
            raise ValueError(
                f"{label_file}:{line}: the class {number} ({names[number]}) is unknown. "
                f"`class_names` allows: {allowed}"
            )
        classes.append(numbers.index(number))
    objects = ([box for _, _, box in rows], classes, [0] * len(rows), None)
    return make_record(image, name, objects, report, image_id=name, fractions=True)


def read_labels(path, num_classes, keypoints=None):
    """Reads a file of labels.

    Args:
        path: of the file.
        num_classes: classes are 0..num_classes - 1.
        keypoints: numbers that follow each box, see `YoloLayout`.

    Returns:
        List of tuples: class, number of the line, and box xyxy as fractions of the image.

    Raises:
        ValueError: a line is malformed; the message names the file and the line.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            label, box = _read_line(line.split(), f"{path}:{number}", num_classes, keypoints)
            rows.append((label, number, box))
    return rows


def _read_line(words, where, num_classes, keypoints):
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{where}: expected numbers. Received: {' '.join(words)!r}") from None
    label, values = values[0], values[1:]
    if not label.is_integer() or not 0 <= label < num_classes:
        raise ValueError(
            f"{where}: the class must be a whole number 0..{num_classes - 1}. Received: {words[0]}"
        )
    if len(values) == 4 or len(values) == 4 + (keypoints or 0):
        x, y, width, height = values[:4]
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    elif len(values) >= 6 and len(values) % 2 == 0:
        xs, ys = values[::2], values[1::2]
        box = [min(xs), min(ys), max(xs), max(ys)]
    else:
        raise ValueError(
            f"{where}: expected `class x_center y_center width height`, or a class and at least "
            f"three `x y` pairs of a polygon. Received {len(words)} values: {' '.join(words[:6])}"
            + (" (a sixth value may be the confidence of a prediction)" if len(words) == 6 else "")
        )
    if any(abs(value) > FRACTION_LIMIT for value in box if math.isfinite(value)):
        raise ValueError(
            f"{where}: the values must be fractions of the image's width and height, 0..1. "
            f"Received: {' '.join(words[1:7])}"
        )
    return int(label), box


def _label_file(image):
    """The file of labels of an image; None if there is none."""
    candidates = (_expected_label(image), image.with_suffix(".txt"))
    return next((path for path in candidates if path.is_file()), None)


def _expected_label(image):
    """The path of an image with its last folder `images` replaced by `labels`."""
    parts = list(image.parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index].lower() == "images":
            parts[index] = "labels"
            break
    return pathlib.Path(*parts).with_suffix(".txt")


def _largest_class(path):
    """The largest class of a file of labels; -1 where it has none, or no numbers."""
    words = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    return max((int(word) for word in words if word.isdigit()), default=-1)


def written_names(data):
    """{file: names} of all lists of class names beside a dataset, which should agree."""
    layout = yolo_layout(data)
    root = layout.source if layout.source.is_dir() else layout.source.parent
    files = [path for name in NAME_FILES for path in sorted(root.rglob(name))]
    found = {str(layout.source): layout.names} if layout.names else {}
    for path in files:
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        found[str(path)] = lines
    return found
