"""Tables of boxes: one row an object, with the image's path, the box and the class."""

import csv
import pathlib
import re

from keras_gflv2.data.csv_columns import find_columns
from keras_gflv2.data.files import ImageFolder, read_text
from keras_gflv2.data.pipeline import dataset_of
from keras_gflv2.data.records import (
    TOLERANCE,
    Annotations,
    Report,
    check_class_names,
    class_index,
    make_record,
)
from keras_gflv2.data.takes_options import takes_options
from keras_gflv2.data.values import read_flag, read_number, read_size
from keras_gflv2.data.yolo_layout import IMAGE_SUFFIXES, split_name

FORMS = (
    "a header with the path of the image (path, image, filename), the box (xmin, ymin, xmax, ymax; "
    "x1, y1, x2, y2; left, top, right, bottom; or x, y, w, h) and its class (class, label, name), "
    "or rows of path,x1,y1,x2,y2,class without one"
)
EMPTY = ("", "nan", "none", "null", "na", "n/a")
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@takes_options
def load_csv(file, image_dir=None, *, split=None, class_names=None, invalid_boxes="drop", options):
    """Loads a table with one row for each object.

    The columns are found by their names in the usual spellings: of pandas scripts, of TensorFlow's
    Object Detection API, of Open Images, of Kaggle. Without a header, rows are those of
    keras-retinanet (`path,x1,y1,x2,y2,class`) or of Google's AutoML and Vertex AI. A row with a
    path alone is an image without objects. Coordinates that are all in 0..1 are fractions.

    ```python
    train_ds = keras_gflv2.data.load_csv("labels.csv", "photos", train=True)
    ```

    Args:
        file: path of the table, separated by commas, semicolons or tabs.
        image_dir: folder of the images; by default that of the table, or a folder in or beside it
            where the first image is.
        split: value of the table's column for splits ("split", "set" or AutoML's first one), such
            as "train"; None for all rows.
        class_names: list of the classes in their order. By default those of a file classes.csv
            (rows of `name,id`) beside the table, else the sorted names of all rows.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.
        options: the `LoaderOptions`.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes. `ds.image_ids` are the
        paths in the table.

    Raises:
        FileNotFoundError: the table or an image is missing.
        ValueError: the table cannot be used; the message names the file and the row.
    """
    report = Report(file, invalid_boxes)
    return dataset_of(read_csv(file, image_dir, report, split, class_names), options)


def read_csv(file, image_dir, report, split=None, class_names=None):
    """The `Annotations` of a table; arguments as in `load_csv`."""
    path = pathlib.Path(file)
    rows = read_rows(path)
    columns = find_columns([cells for _, cells in rows]) if rows else None
    if columns is None:
        raise ValueError(f"{path} is not a table of boxes. It needs {FORMS}.")
    rows = rows[1:] if columns.has_header else rows
    objects = report.read_each(rows, lambda row: _read_row(*row, columns, path))
    if class_names is None:
        class_names = _listed_classes(path) or sorted({o["class"] for o in objects if o["box"]})
        if not class_names:
            raise ValueError(f"{path} has no object, so there are no classes. Pass `class_names`.")
    class_names = check_class_names(class_names)
    fractions = _are_fractions(objects, columns)
    images = _by_image(objects, split, path)
    folder = ImageFolder(image_dir or find_image_dir(path, next(iter(images))))
    records = report.read_each(
        images.items(),
        lambda entry: _read_record(*entry, folder, class_names, fractions, report, path),
    )
    return Annotations(records, class_names, report)


def read_rows(path):
    """Returns `(number, cells)` of all rows that are not empty.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The annotation file {path} does not exist.")
    lines = read_text(path).splitlines()
    sample = next((line for line in lines if line.strip()), "")
    delimiter = max(",;\t", key=sample.count)
    rows = enumerate(csv.reader(lines, delimiter=delimiter, skipinitialspace=True), start=1)
    return [(number, cells) for number, cells in rows if any(cell.strip() for cell in cells)]


def splits_of(path):
    """The splits that a table names, in their usual spelling; empty if it has no such column."""
    rows = read_rows(path)
    columns = find_columns([cells for _, cells in rows]) if rows else None
    if columns is None or columns.split is None:
        return []
    rows = rows[1:] if columns.has_header else rows
    return list(dict.fromkeys(_split_of(cells, columns) for _, cells in rows))


def _split_of(cells, columns):
    return split_name(cells[columns.split].strip().replace("VALIDATE", "val"))


def _read_row(number, cells, columns, path):
    """Image, class, box xyxy or None, and flags of one row."""
    where = f"{path}:{number}"

    def cell(index):
        return cells[index].strip() if index is not None and index < len(cells) else ""

    name = cell(columns.image)
    if not name:
        raise ValueError(f"{where} has no path of an image.")
    texts = [cell(index) for index in columns.box]
    if len(columns.box) == 1:
        texts = NUMBER.findall(texts[0])
        if len(texts) not in (0, 4):
            raise ValueError(f"{where}: the box must have four numbers. Received: {texts}")
    label = cell(columns.label)
    box = None
    if not all(text.lower() in EMPTY for text in texts):
        keys = ("x", "y", "width", "height") if columns.is_extent else ("x1", "y1", "x2", "y2")
        box = [read_number(text, key, where, finite=False) for text, key in zip(texts, keys)]
        if columns.is_extent:
            box[2:] = [box[0] + box[2], box[1] + box[3]]
        if not label:
            raise ValueError(f"{where} has a box and no class.")
    return {
        "image": name,
        "class": label,
        "box": box,
        "ignored": int(read_flag(cell(columns.ignored), "ignored", where)),
        "split": None if columns.split is None else _split_of(cells, columns),
        "size": read_size(cell(columns.height), cell(columns.width), where),
    }


def _are_fractions(objects, columns):
    if columns.fractions is not None:
        return columns.fractions
    values = [value for entry in objects if entry["box"] for value in entry["box"]]
    largest = max(values, default=0)
    return 0 < largest <= 1 + TOLERANCE and any(0 < value < 1 for value in values)


def _by_image(objects, split, path):
    """{path of the image: its objects}, of one split."""
    images = {}
    for entry in objects:
        if split is None or entry["split"] == split_name(split):
            images.setdefault(entry["image"], []).append(entry)
    if not images:
        known = sorted({str(entry["split"]) for entry in objects})
        raise ValueError(
            f"{path}: the dataset is empty. It has no row"
            + (f" of the split {split!r}; its splits: {known}" if split else ".")
        )
    return images


def _read_record(name, objects, folder, class_names, fractions, report, path):
    names = [name, *(f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)]
    found, repaired = folder.find(names, f"{path}: {name}")
    if found is None:
        raise FileNotFoundError(
            f"The image file {folder.folder / name} does not exist, but {path} lists it."
        )
    report.add("repaired_names", name, repaired)
    objects = [entry for entry in objects if entry["box"]] or objects[:1]
    present = [entry for entry in objects if entry["box"]]
    return make_record(
        found,
        name,
        (
            [entry["box"] for entry in present],
            [class_index(entry["class"], class_names, f"{path} ({name})") for entry in present],
            [entry["ignored"] for entry in present],
            None,
        ),
        report,
        image_id=name,
        stated_size=objects[0]["size"],
        fractions=fractions,
    )


def find_image_dir(path, first):
    """The folder of the images of an annotation file: where the first one is.

    Args:
        path: of the annotation file.
        first: name of an image as the file has it.

    Returns:
        The file's own folder, or one in or beside it. The file's own if the image is nowhere.
    """
    parent = path.parent
    names = ("images", "JPEGImages", "img", "imgs", "photos", path.stem, "data", "train", "val")
    folders = [parent, *(parent / name for name in names)]
    folders += [parent.parent, *(parent.parent / name for name in names)]
    spellings = [first, *(f"{first}{suffix}" for suffix in IMAGE_SUFFIXES)]
    for folder in folders:
        if not folder.is_dir():
            continue
        try:
            if ImageFolder(folder).find(spellings, str(path))[0] is not None:
                return folder
        except ValueError:
            continue
    return parent


def _listed_classes(path):
    """Names in a keras-retinanet file of `name,id` beside the table; None if there is none."""
    for name in ("classes.csv", "_classes.csv"):
        file = path.with_name(name)
        if not file.is_file() or file == path:
            continue
        rows = [cells for _, cells in read_rows(file)]
        if all(len(cells) == 2 and cells[1].strip().isdigit() for cells in rows):
            return [cells[0].strip() for cells in sorted(rows, key=lambda cells: int(cells[1]))]
    return None
