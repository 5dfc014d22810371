"""What kind of dataset a folder or a file holds, and which parts it has."""

import dataclasses
import json
import ntpath
import pathlib
import re

from keras_gflv2.data import voc_layout
from keras_gflv2.data.csv_columns import find_columns
from keras_gflv2.data.csv_files import find_image_dir, read_rows, splits_of
from keras_gflv2.data.source import Source
from keras_gflv2.data.yolo_layout import (
    NAME_FILES,
    SPLIT_NAMES,
    configuration_files,
    images_below,
    split_name,
    yolo_layout,
)

LOOKED_FOR = (
    "a YOLO data.yaml, obj.data or folders images and labels; a COCO .json with images, "
    "annotations and categories (in the folder, in annotations/ or in train/, valid/, ...); Pascal "
    "VOC .xml files; or a .csv with the columns of a table of boxes"
)
COCO_KEYS = (b'"images"', b'"annotations"', b'"categories"')
FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
SPLIT_IN_NAME = re.compile(r"(?:^|[^a-z])(train|val|valid|validation|test)(?:ing)?(?![a-z])")


@dataclasses.dataclass
class Recognized:
    """What a folder or a file was taken for.

    Attributes:
        path: the folder or file.
        form: in words, such as "YOLO (data.yaml)".
        sources: {split: `Source`}: "train", "val", "test", or None for a dataset without splits.
    """

    path: pathlib.Path
    form: str
    sources: dict

    def source(self, *splits):
        """The `Source` of the first of these splits that there is; None if there is none."""
        return next((self.sources[split] for split in splits if split in self.sources), None)

    def __str__(self):
        splits = [split for split in self.sources if split]
        parts = f"with the splits {', '.join(splits)}" if splits else "without splits"
        return f"{self.path}: taken for {self.form} {parts}"


def recognize(path, kind=None):
    """What kind of dataset a folder or a file holds.

    Args:
        path: of a folder, or of one annotation file: data.yaml, obj.data, .json or .csv.
        kind: "yolo", "coco", "voc" or "csv" where it is known.

    Returns:
        `Recognized`.

    Raises:
        FileNotFoundError: there is no such folder or file, or nothing in it that is known.
        ValueError: it may be several datasets; the message says how to name each.
    """
    path = pathlib.Path(path)
    if path.is_file():
        found = _from_file(path)
    elif path.is_dir():
        looks = {"yolo": _yolo, "coco": _coco, "voc": _voc, "csv": _csv}
        looks = looks.values() if kind is None else [looks[kind]]
        found = [one for one in (look(path) for look in looks) if one is not None]
    else:
        raise FileNotFoundError(f"{path} does not exist.")
    if not found and path.is_dir():
        # What was unpacked into a folder of its own.
        inside = [other for other in path.iterdir() if not other.name.startswith(".")]
        if len(inside) == 1 and inside[0].is_dir():
            return recognize(inside[0], kind)
    if not found:
        raise FileNotFoundError(f"{path} holds no dataset that is known. Looked for {LOOKED_FOR}.")
    if len(found) > 1:
        each = "; ".join(
            f"{one.form} as {', '.join(str(s) for s in one.sources.values())}" for one in found
        )
        raise ValueError(f"{path} may be several datasets. Name the one that is meant: {each}.")
    return found[0]


def _from_file(path):
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml", ".data"):
        return [_yolo_of(path)]
    if suffix == ".json":
        return [_coco_of(path, [path])]
    if suffix in (".csv", ".tsv"):
        return [_csv_of(path, [path])]
    return []


# === YOLO ===


def _yolo(folder):
    if configuration_files(folder):
        return _yolo_of(folder)
    labels = [path for path in folder.rglob("*.txt") if path.name not in NAME_FILES]
    stems = {image.stem for image in images_below(folder)}
    if any(path.stem in stems and _is_label_file(path) for path in labels):
        return _yolo_of(folder)
    return None


def _yolo_of(path):
    layout = yolo_layout(path)
    splits = [split for split in layout.splits if layout.splits[split]]
    if not splits:
        layout.images(None)  # which says what is missing
    form = "YOLO" + (f" ({layout.source.name})" if layout.source.is_file() else "")
    return Recognized(path, form, {s: Source("yolo", str(path), split=s) for s in splits})


def _is_label_file(path):
    """Whether its first line is numbers, as many as a box or a polygon has."""
    with open(path, "rb") as file:
        words = file.readline(10_000).split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        return False
    return len(values) >= 5 and max(map(abs, values[1:])) <= 2


# === COCO ===


def _coco(folder):
    files = [path for path in _annotation_files(folder, "json") if _is_coco(path)]
    # COCO's own folder has captions and keypoints beside them.
    instances = [path for path in files if path.name.startswith("instances_")]
    return _coco_of(folder, instances or files) if files else None


def _annotation_files(folder, suffix):
    names = ("", "annotations", "Annotations", *(n for s in SPLIT_NAMES.values() for n in s))
    return [path for name in names for path in sorted((folder / name).glob(f"*.{suffix}"))]


def _is_coco(path):
    """Whether a JSON file has the three lists, without parsing hundreds of megabytes."""
    content = path.read_bytes()
    return all(re.search(re.escape(key) + rb"\s*:\s*\[", content) for key in COCO_KEYS)


def _coco_of(path, files):
    sources = {}
    for file in files:
        split = _split_in(file, path)
        if split in sources:
            raise ValueError(
                f"{path} has several COCO files"
                + (f" for the split {split!r}" if split else "")
                + f": {sources[split].path} and {file}. Name one as coco:{file}:IMAGE_DIR."
            )
        sources[split] = Source("coco", str(file), image_dir=str(_coco_images(file)))
    return Recognized(path, "COCO", sources)


def _split_in(file, path):
    """The split in the name of a file or of its folder; None if there is none."""
    names = [file.name] + ([file.parent.name] if file.parent != path else [])
    for name in names:
        match = SPLIT_IN_NAME.search(name.lower())
        if match:
            return split_name(match[1])
    return None


def _coco_images(file):
    """The folder of the images of a COCO file: where the first image is."""
    # Parsing hundreds of megabytes is left to the reader.
    match = FILE_NAME.search(file.read_bytes())
    if match is None:
        return file.parent
    first = json.loads(match[1])
    split = file.stem.removeprefix("instances_")
    for base in (file.parent, file.parent.parent):
        for name in (split, f"images/{split}", "images/default"):
            if (base / name / ntpath.basename(first)).is_file():
                return base / name
    return find_image_dir(file, first)


# === VOC ===


def _voc(folder):
    splits = voc_layout.splits_of(folder)
    if not splits and voc_layout.find_annotations(folder) is None:
        return None
    sources = {}
    for split in splits or [None]:
        sources[split and split_name(split)] = Source("voc", str(folder), split=split)
    return Recognized(folder, "Pascal VOC", sources)


# === CSV ===


def _csv(folder):
    files = [path for path in _annotation_files(folder, "csv") if _is_table(path)]
    return _csv_of(folder, files) if files else None


def _is_table(path):
    try:
        rows = read_rows(path)
    except ValueError:
        return False
    return bool(rows) and find_columns([cells for _, cells in rows]) is not None


def _csv_of(path, files):
    sources = {}
    for file in files:
        named = splits_of(file) if file.is_file() else []
        for split in named or [_split_in(file, path)]:
            if split in sources:
                raise ValueError(
                    f"{path} has several tables: {sources[split].path} and {file}. "
                    f"Name one as csv:{file}"
                )
            sources[split] = Source("csv", str(file), split=split if named else None)
    return Recognized(path, "a table of boxes (CSV)", sources)
