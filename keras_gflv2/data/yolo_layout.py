"""Where a YOLO dataset keeps its splits and its class names.

In: a data.yaml as ultralytics and Roboflow write it, an obj.data of Darknet and CVAT, or a folder.
Out: a `YoloLayout`, whose splits are lists of image files.
"""

import dataclasses
import itertools
import os
import pathlib
import re

import yaml

from keras_gflv2.data.files import read_text

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "names.txt")


@dataclasses.dataclass
class YoloLayout:
    """Attributes:
    source: the file or folder that says so, for messages.
    splits: {"train" | "val" | "test" | None: list of paths of images}; None for all of a folder
        without splits.
    names: list of class names, or None where none are written down.
    keypoints: numbers that follow the box in a line of a pose dataset; None if there are none.
    missing: {split: error} of those whose images are not there.
    """

    source: pathlib.Path
    splits: dict
    names: list | None
    keypoints: int | None = None
    missing: dict = dataclasses.field(default_factory=dict)

    def images(self, split):
        """The images of a split.

        Raises:
            FileNotFoundError: the folder or the list of the split does not exist.
            ValueError: there is no such split; the message lists the others.
        """
        split = split_name(split) if split else None
        if split in self.missing or (self.missing and not self.splits):
            raise self.missing.get(split) or next(iter(self.missing.values()))
        if split is None and None not in self.splits:
            return list(dict.fromkeys(itertools.chain(*self.splits.values())))
        if split not in self.splits:
            known = [name for name in self.splits if name]
            raise ValueError(
                f"{self.source} has no split {split!r}. "
                + (
                    f"Its splits: {known}"
                    if known
                    else "It has no splits at all: leave it out, and pass `validation_fraction` "
                    "to divide the images (--validation-fraction on the command line)."
                )
            )
        return self.splits[split]


def split_name(name):
    """ "train", "val" or "test" for any usual spelling; other names as they are."""
    for split, spellings in SPLIT_NAMES.items():
        if name.lower() in spellings:
            return split
    return name


def yolo_layout(data):
    """The `YoloLayout` of a data.yaml, an obj.data or a folder.

    Raises:
        FileNotFoundError: it does not exist, or a folder or list that it names.
        ValueError: its content cannot be used.
    """
    path = pathlib.Path(data)
    if not path.exists():
        raise FileNotFoundError(f"The YOLO dataset {path} does not exist.")
    if path.is_file():
        return _from_file(path)
    files = configuration_files(path)
    if len(files) > 1:
        raise ValueError(
            f"{path} has several descriptions: {[file.name for file in files]}. Name one of them."
        )
    return _from_file(files[0]) if files else _from_folder(path)


def configuration_files(folder):
    """The files of a folder that describe a YOLO dataset: *.yaml with splits, or obj.data."""
    found = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            content = yaml.safe_load(read_text(path))
        except (yaml.YAMLError, ValueError):
            content = None
        if isinstance(content, dict) and _entries(content):
            found.append(path)
    return found or [path for path in (folder / "obj.data",) if path.is_file()]


def _from_file(path):
    content = _read_darknet(path) if path.suffix == ".data" else _read_yaml(path)
    entries = _entries(content)
    if not entries:
        raise ValueError(
            f"{path} names no images: it needs `train` and `val`, each a folder, a list of "
            "folders or a .txt file with a path a line."
        )
    root = _root(path, content.get("path"))
    layout = YoloLayout(path, {}, _names(content, path, root), _keypoints(content, path))
    for split, entry in entries.items():
        entry = entry if isinstance(entry, list) else [entry]
        try:
            parts = [_images_of(str(part), root, path, split) for part in entry]
            layout.splits[split] = list(itertools.chain(*parts))
        except FileNotFoundError as error:  # of a split that nobody may ask for
            layout.missing[split] = error
    return layout


def _read_yaml(path):
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not a valid YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a data.yaml: it holds no `key: value` lines.")
    return content


def _read_darknet(path):
    """obj.data: lines of `key = value`, with the file of the names under `names`."""
    pairs = (line.partition("=") for line in read_text(path).splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _entries(content):
    """{split: what the file has under one of its spellings}"""
    found = {}
    for split, spellings in SPLIT_NAMES.items():
        for key in spellings:
            if content.get(key):
                found.setdefault(split, content[key])
    return found


def _root(path, stated):
    """The folder that entries are relative to: as stated, also where the data was moved."""
    folder = path.parent
    if not stated:
        return folder
    stated = str(stated).replace("\\", "/")
    name = pathlib.PurePosixPath(stated).name
    candidates = [folder / stated, pathlib.Path(stated), folder.parent / stated, folder / name]
    return next((candidate for candidate in candidates if candidate.is_dir()), folder)


def _images_of(entry, root, source, split):
    """The images of one entry: a folder, a list of paths, or one image."""
    path = _existing(entry, root, source.parent)
    if path is None:
        raise FileNotFoundError(
            f"{source}: `{split}` names {entry!r}, which is neither in {root} nor in "
            f"{source.parent}. Correct the path; it is relative to `path`."
        )
    if path.is_dir():
        return images_below(path)
    if path.suffix.lower() == ".txt":
        lines = [line.strip() for line in read_text(path).splitlines()]
        return [_listed(line, path, root) for line in lines if line]
    return [path]


def _existing(entry, *folders):
    """The first path that exists, also without leading folders of another machine; else None."""
    parts = pathlib.PurePosixPath(entry.replace("\\", "/")).parts
    # Roboflow writes "../train/images" for "train/images".
    while True:
        for folder in folders:
            path = folder.joinpath(*parts)
            if path.exists():
                return pathlib.Path(os.path.normpath(path))
        if len(parts) < 2:
            return None
        parts = parts[1:]


def _listed(line, path, root):
    """The image of a line of a split list; where it should be if it is not there."""
    found = _existing(line, path.parent, root)
    if found is not None and found.is_file():
        return found
    folder, _, name = line.replace("\\", "/").rpartition("/")
    return (_existing(folder, path.parent, root) or root) / name


def images_below(folder):
    """All images of a folder and of those in it, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


def _names(content, path, root):
    """The class names of a description; None if it has none."""
    names, count = content.get("names"), content.get("nc", content.get("classes"))
    if isinstance(names, str):  # obj.data names a file
        file = _existing(names, root, path.parent)
        names = None if file is None else _lines(file)
    elif isinstance(names, dict):
        try:
            names = {int(key): value for key, value in names.items()}
        except (TypeError, ValueError):
            raise ValueError(f"{path}: the keys of `names` must be numbers.") from None
        if sorted(names) != list(range(len(names))):
            raise ValueError(
                f"{path}: `names` must number the classes from 0 without gaps. It has "
                f"{sorted(names)}."
            )
        names = [names[key] for key in sorted(names)]
    elif names is not None and not isinstance(names, list):
        raise ValueError(f"{path}: `names` must be a list of the classes, or a dictionary.")
    if names is not None and re.fullmatch(r"\d+", str(count or "")) and int(count) != len(names):
        raise ValueError(f"{path}: `nc` is {count}, but `names` has {len(names)} names: {names}")
    if names is None and re.fullmatch(r"\d+", str(count or "")):
        return [f"class_{index}" for index in range(int(count))]
    return names and [str(name) for name in names]


def _keypoints(content, path):
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if not isinstance(shape, list) or not all(isinstance(number, int) for number in shape):
        raise ValueError(f"{path}: `kpt_shape` must be [points, numbers of each].")
    points, numbers = shape
    return points * numbers


def _from_folder(path):
    """A folder without a description: images/train, train/images, or images beside labels."""
    splits = {}
    for split, spellings in SPLIT_NAMES.items():
        for name in spellings:
            for folder in (path / "images" / name, path / name / "images", path / name):
                if folder.is_dir() and split not in splits and images_below(folder):
                    splits[split] = images_below(folder)
    splits = splits or {None: images_below(path)}
    folders = [
        path,
        path / "labels",
        *(path / name for name in itertools.chain(*SPLIT_NAMES.values())),
    ]
    files = [folder / name for folder in folders for name in NAME_FILES]
    names = next((_lines(file) for file in files if file.is_file()), None)
    return YoloLayout(path, splits, names)


def _lines(path):
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [line for line in lines if line] or None
