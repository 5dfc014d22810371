"""Pascal VOC folders: Annotations/*.xml, ImageSets/Main/SPLIT.txt, JPEGImages/*."""

import collections
import ntpath
import os
import pathlib
import re

from keras_gflv2.data.files import ImageFolder, parse_xml, read_text
from keras_gflv2.data.pipeline import dataset_of
from keras_gflv2.data.records import Report, check_class_names, class_index, make_record
from keras_gflv2.data.takes_options import takes_options
from keras_gflv2.data.values import read_flag, read_number, read_size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
# Lists of one class say for each image whether the class is there, not there or difficult.
QUOTED_NAME = re.compile(r'"(.+)"')  # Datumaro quotes names with spaces.
CLASS_LIST_LINE = re.compile(r"(.*\S)\s+(?:-1|0|1)")
FILE_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|tiff?|webp|xml)$", re.IGNORECASE)


@takes_options
def load_voc(
    directory,
    split,
    *,
    class_names=None,
    invalid_boxes="drop",
    options,
):
    """Loads a split of a Pascal VOC folder.

    Coordinates are used as they are: nothing is subtracted. Difficult objects come as ignored.

    ```python
    train_ds = keras_gflv2.data.load_voc("VOC2007", "trainval", train=True, batch_size=4)
    train_ds.class_names
    ```

    Args:
        directory: folder with `Annotations`, `ImageSets/Main` and `JPEGImages`.
        split: name of a list in `ImageSets/Main`, such as "train".
        class_names: list of the classes in their order. By default the sorted names of all
            annotation files of the folder, so that every split has the same.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.
        options: the `LoaderOptions`.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes. `ds.image_ids` are the ids
        of the list; the batches carry the index into it.

    Raises:
        FileNotFoundError: a folder, list, annotation or image is missing.
        ValueError: the content of a file cannot be used; the message names the file.
    """
    directory = pathlib.Path(directory)
    report = Report(directory / split, invalid_boxes)
    ids = _read_split(directory, split, report)
    if class_names is None:
        class_names = _find_class_names(directory)
    class_names = check_class_names(class_names)
    folder = ImageFolder(directory / "JPEGImages")
    records = [_read_record(directory, name, folder, class_names, report) for name in ids]
    return dataset_of(records, report, options, class_names=class_names)


def _read_split(directory, split, report):
    """Returns the image ids of a split, each once."""
    path = directory / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"The split {split!r} needs the file {path}, which does not exist. "
            + (f"Known splits: {known}" if known else f"{path.parent} has no list of images.")
        )
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", read_text(path))]
    lines = [line for line in lines if line]
    columns = [CLASS_LIST_LINE.fullmatch(line) for line in lines]
    has_column = all(columns)
    ids = []
    for line, match in zip(lines, columns):
        name = _first_column(line, match[1], directory, path) if has_column else line
        quoted = QUOTED_NAME.fullmatch(name)
        name = quoted[1] if quoted else name
        ids.append(_image_id(name, directory, path))
        report.add("repaired_names", name, name != ids[-1])
    if not ids:
        raise ValueError(f"{path}: the dataset is empty. It lists no image.")
    counts = collections.Counter(ids)
    for name, count in counts.items():
        report.add("repeated_images", name, count - 1)
    return list(counts)


def _first_column(line, first, directory, path):
    """Returns the name in a line which may have a second column, or be a name with a space."""
    if not _has_annotation(line, directory):
        return first
    if _has_annotation(first, directory):
        raise ValueError(
            f"{path}: the line {line!r} may mean the image {line!r}, or {first!r} with a second "
            "column: both have an annotation. Rename one of them."
        )
    return line


def _image_id(name, directory, path):
    """Returns the id that has an annotation: a name without what other lists add to it."""
    base = ntpath.basename(name)
    for candidate in (name, FILE_SUFFIX.sub("", name), base, FILE_SUFFIX.sub("", base)):
        if _has_annotation(candidate, directory):
            return candidate
    raise FileNotFoundError(
        f"The annotation file {directory / 'Annotations' / name}.xml does not exist, but {path} "
        "lists it."
    )


def _has_annotation(name, directory):
    parts = pathlib.PurePath(name)
    inside = not parts.is_absolute() and ".." not in parts.parts
    return inside and os.path.isfile(directory / "Annotations" / f"{name}.xml")


def _find_class_names(directory):
    names = set()
    for path in sorted((directory / "Annotations").glob("*.xml")):
        for element in parse_xml(path).iterfind("object"):
            names.add(_text(element, "name", f"{path}: an object"))
    if not names:
        raise ValueError(
            f"{directory / 'Annotations'} holds no object, so there are no class names. "
            "Pass `class_names`."
        )
    return sorted(names)


def _read_record(directory, image_id, folder, class_names, report):
    path = directory / "Annotations" / f"{image_id}.xml"
    root = parse_xml(path)
    return make_record(
        _find_image(folder, image_id, root, path, report),
        image_id,
        _read_objects(root, class_names, path),
        report,
        image_id=image_id,
        stated_size=_stated_size(root, path),
    )


def _find_image(folder, image_id, root, annotation, report):
    """Returns the path of the image: that of the id, else that which the annotation names."""
    named = [ntpath.basename(_stripped(root, key)) for key in ("filename", "path")]
    suffixes = dict.fromkeys((*(pathlib.PurePath(name).suffix for name in named), *IMAGE_SUFFIXES))
    names = [f"{image_id}{suffix}" for suffix in suffixes if suffix]
    path, repaired = folder.find(names + [name for name in named if name], annotation)
    if path is None:
        raise FileNotFoundError(
            f"The image file {folder.folder / image_id}.jpg does not exist, nor one with another "
            f"suffix. The annotation {annotation} needs it."
        )
    # The id has no suffix, so that the suffix needs no repair.
    report.add(
        "repaired_names", image_id, repaired and path.stem != pathlib.PurePath(image_id).name
    )
    return path


def _read_objects(root, class_names, path):
    """Returns boxes, classes, ignored of the objects in an annotation, and None for areas."""
    boxes, classes, ignored = [], [], []
    for number, element in enumerate(root.iterfind("object"), start=1):
        name = _text(element, "name", f"{path}: object {number}")
        where = f"{path}: object {number} ({name})"
        classes.append(class_index(name, class_names, path))
        box = element.find("bndbox")
        if box is None:
            raise ValueError(f"{where} has no <bndbox>.")
        boxes.append(
            [
                read_number(_text(box, key, where), f"<{key}>", where, finite=False)
                for key in ("xmin", "ymin", "xmax", "ymax")
            ]
        )
        ignored.append(int(read_flag(element.findtext("difficult"), "<difficult>", where)))
    return boxes, classes, ignored, None


def _stated_size(root, path):
    """`(height, width)` as the annotation has it; None if it has none, or zeros."""
    return read_size(_stripped(root, "size/height"), _stripped(root, "size/width"), path)


def _stripped(element, key):
    return (element.findtext(key) or "").strip()


def _text(element, key, where):
    text = _stripped(element, key)
    if not text:
        raise ValueError(f"{where} has no <{key}>.")
    return text
