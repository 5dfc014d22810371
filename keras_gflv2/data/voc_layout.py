"""Where a Pascal VOC folder keeps its images, its XML files and its splits."""

import collections
import dataclasses
import ntpath
import os
import pathlib
import re

from keras_gflv2.data.division import SUBSETS
from keras_gflv2.data.files import ImageFolder, parse_xml, read_text
from keras_gflv2.data.yolo_layout import IMAGE_SUFFIXES, SPLIT_NAMES, split_name

ANNOTATION_FOLDERS = (
    "Annotations", "annotations", "annotations/xmls", "Annotation", "annotation", "labels", "xml",
    "xmls", "",
)  # fmt: skip
IMAGE_FOLDERS = (
    "JPEGImages", "images", "Images", "image", "img", "imgs", "photos", "pictures", "",
)  # fmt: skip
# Lists of one class say for each image whether the class is there, not there or difficult.
QUOTED_NAME = re.compile(r'"(.+)"')  # Datumaro quotes names with spaces.
CLASS_LIST_LINE = re.compile(r"(.*\S)\s+(?:-1|0|1)")
FILE_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|tiff?|webp|xml)$", re.IGNORECASE)


@dataclasses.dataclass
class VocLayout:
    """Attributes:
    directory: the folder that was named.
    annotations, images: folders of the XML files and of the images.
    ids: names of the images to load: paths below `annotations` without their suffix.
    split: "train", "val", ...; None for all images.
    all_annotations: the XML files of all splits.
    is_divided: whether `ids` are those of all splits, because there are no lists of them.
    """

    directory: pathlib.Path
    annotations: pathlib.Path
    images: pathlib.Path
    ids: list
    split: str | None
    all_annotations: list
    is_divided: bool = False


def voc_layout(directory, split, report):
    """The `VocLayout` of a folder.

    Args:
        directory: `pathlib.Path` of the folder.
        split: name of a list or of a folder, or None for all images.
        report: the `Report` that counts repaired and repeated names.

    Raises:
        FileNotFoundError: there are no annotations, or not those of the split.
        ValueError: a list of images cannot be read.
    """
    lists = directory / "ImageSets" / "Main"
    if split is not None and any(lists.glob("*.txt")):
        annotations = directory / "Annotations"
        path = lists / f"{split}.txt"
        ids = _read_split(annotations, path, report)
        files = sorted(annotations.glob("*.xml"))
        return VocLayout(directory, annotations, directory / "JPEGImages", ids, split, files)
    root = _folder_of_split(directory, split)
    annotations = find_annotations(root or directory)
    if annotations is None:
        raise FileNotFoundError(
            f"{directory} has no Pascal VOC annotations: there is no .xml file in it, nor in its "
            f"folders {', '.join(name for name in ANNOTATION_FOLDERS if name)}."
        )
    is_divided = split is not None and root is None
    if is_divided and split_name(split) not in SUBSETS:
        raise FileNotFoundError(
            f"The split {split!r} needs the file {lists / split}.txt, which does not exist. "
            f"{lists} has no list of images. Leave the split out for all images, or name 'train' "
            "or 'val' for a part of them."
        )
    files = sorted(annotations.rglob("*.xml"))
    ids = [path.relative_to(annotations).with_suffix("").as_posix() for path in files]
    images = _find_images(directory, annotations, files[0])
    everything = files if root is None else sorted(directory.rglob("*.xml"))
    split = split and split_name(split)
    return VocLayout(directory, annotations, images, ids, split, everything, is_divided)


def splits_of(directory):
    """Names of the splits of a folder: of its lists, else of its folders; empty without either."""
    lists = sorted(path.stem for path in (directory / "ImageSets" / "Main").glob("*.txt"))
    if lists:
        return [name for name in lists if name in ("train", "trainval", "val", "test")] or lists
    return [split for split in SPLIT_NAMES if _folder_of_split(directory, split) is not None]


def find_annotations(directory):
    """The folder of the XML files, None if there are none."""
    for name in ANNOTATION_FOLDERS:
        folder = directory / name
        if folder.is_dir() and any(_is_annotation(path) for path in folder.glob("*.xml")):
            return folder
    # Folders of folders, such as one for each day.
    for name in ANNOTATION_FOLDERS:
        folder = directory / name
        if folder.is_dir() and any(_is_annotation(path) for path in folder.rglob("*.xml")):
            return folder
    return None


def _is_annotation(path):
    with open(path, "rb") as file:
        start = file.read(4096)
    # UTF-16 has a zero byte beside each of these letters.
    return b"annotation" in start.replace(b"\0", b"").lower()


def _folder_of_split(directory, split):
    """The folder of a split: train, or train below one of annotations; None if there is none."""
    if split is None:
        return None
    for name in (split, *SPLIT_NAMES.get(split_name(split), ())):
        for parent in ANNOTATION_FOLDERS[::-1]:
            folder = directory / parent / name
            if folder.is_dir() and find_annotations(folder) is not None:
                return folder
    return None


def _find_images(directory, annotations, first):
    """The folder of the images: where that of the first XML file is."""
    stem = first.relative_to(annotations).with_suffix("").as_posix()
    names = [f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES] + _named_image(first)
    parts = [""]
    if annotations != directory:
        parts.append(annotations.name)  # images/train beside annotations/train
    bases = [annotations, annotations.parent, annotations.parent.parent, directory]
    for base in (base for base in bases if base == directory or directory in base.parents):
        for folder in (base / name / part for part in parts for name in IMAGE_FOLDERS):
            if folder.is_dir() and ImageFolder(folder).find(names, str(first))[0] is not None:
                return folder
    return directory / "JPEGImages" if (directory / "JPEGImages").is_dir() else annotations


def _named_image(path):
    """[the file that an annotation names], empty if it names none or cannot be read."""
    try:
        name = ntpath.basename((parse_xml(path).findtext("filename") or "").strip())
    except ValueError:  # which the reader says
        return []
    return [name] if name else []


def _read_split(annotations, path, report):
    """Returns the image ids of a list, each once."""
    if not path.is_file():
        known = sorted(other.stem for other in path.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"The split {path.stem!r} needs the file {path}, which does not exist. "
            f"Known splits: {known}"
        )
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", read_text(path))]
    lines = [line for line in lines if line]
    columns = [CLASS_LIST_LINE.fullmatch(line) for line in lines]
    has_column = all(columns)
    ids = []
    for line, match in zip(lines, columns):
        name = _first_column(line, match[1], annotations, path) if has_column else line
        quoted = QUOTED_NAME.fullmatch(name)
        name = quoted[1] if quoted else name
        with report.keeping_faults():
            ids.append(_image_id(name, annotations, path))
            report.add("repaired_names", name, name != ids[-1])
    if not ids:
        raise ValueError(f"{path}: the dataset is empty. It lists no image.")
    counts = collections.Counter(ids)
    for name, count in counts.items():
        report.add("repeated_images", name, count - 1)
    return list(counts)


def _first_column(line, first, annotations, path):
    """Returns the name in a line which may have a second column, or be a name with a space."""
    if not _has_annotation(line, annotations):
        return first
    if _has_annotation(first, annotations):
        raise ValueError(
            f"{path}: the line {line!r} may mean the image {line!r}, or {first!r} with a second "
            "column: both have an annotation. Rename one of them."
        )
    return line


def _image_id(name, annotations, path):
    """Returns the id that has an annotation: a name without what other lists add to it."""
    base = ntpath.basename(name)
    for candidate in (name, FILE_SUFFIX.sub("", name), base, FILE_SUFFIX.sub("", base)):
        if _has_annotation(candidate, annotations):
            return candidate
    raise FileNotFoundError(
        f"The annotation file {annotations / name}.xml does not exist, but {path} lists it."
    )


def _has_annotation(name, annotations):
    parts = pathlib.PurePath(name)
    inside = not parts.is_absolute() and ".." not in parts.parts
    return inside and os.path.isfile(annotations / f"{name}.xml")
