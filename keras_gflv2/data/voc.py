"""Pascal VOC folders: Annotations/*.xml, ImageSets/Main/SPLIT.txt, JPEGImages/*."""

import pathlib
import xml.etree.ElementTree as ElementTree

from keras_gflv2.data.pipeline import build_dataset
from keras_gflv2.data.records import Report, check_class_names, class_index, make_record

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".tif",
    ".tiff",
    ".webp",
    ".JPG",
    ".JPEG",
    ".PNG",
)


def load_voc(
    directory,
    split,
    *,
    batch_size=8,
    image_size=(800, 1333),
    bounding_box_format="xyxy",
    class_names=None,
    train=False,
    shuffle=None,
    seed=None,
    augmentation=None,
    invalid_boxes="drop",
    cache="auto",
    class_balance=0.0,
    shard="auto",
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
        batch_size, image_size, bounding_box_format, train, shuffle, seed, augmentation, cache,
            class_balance, shard: see `keras_gflv2.data.build_dataset`.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.

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
    records = [
        _read_record(directory, image_id, index, class_names, report, split)
        for index, image_id in enumerate(ids)
    ]
    return build_dataset(
        records,
        report,
        class_names=class_names,
        image_ids=ids,
        batch_size=batch_size,
        image_size=image_size,
        bounding_box_format=bounding_box_format,
        train=train,
        shuffle=shuffle,
        seed=seed,
        augmentation=augmentation,
        cache=cache,
        class_balance=class_balance,
        shard=shard,
    )


def _read_split(directory, split, report):
    """Returns the image ids of a split, each once."""
    path = directory / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.txt"))
        raise FileNotFoundError(
            f"The split {split!r} needs the file {path}, which does not exist. "
            + (f"Known splits: {known}" if known else f"{path.parent} has no list of images.")
        )
    # Lists of one class have a second column, which does not concern detection.
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    ids = [words[0] for words in lines if words]
    if not ids:
        raise ValueError(f"{path}: the dataset is empty. It lists no image.")
    unique = list(dict.fromkeys(ids))
    if len(unique) < len(ids):
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        for name in repeated:
            report.add("repeated_images", name, ids.count(name) - 1)
    return unique


def _find_class_names(directory):
    names = set()
    for path in sorted((directory / "Annotations").glob("*.xml")):
        for element in _parse(path).iterfind("object"):
            names.add(_text(element, "name", path))
    if not names:
        raise ValueError(
            f"{directory / 'Annotations'} holds no object, so there are no class names. "
            "Pass `class_names`."
        )
    return sorted(names)


def _read_record(directory, image_id, index, class_names, report, split):
    path = directory / "Annotations" / f"{image_id}.xml"
    if not path.is_file():
        raise FileNotFoundError(
            f"The annotation file {path} does not exist, but the split {split!r} lists it."
        )
    root = _parse(path)
    return make_record(
        _find_image(directory, image_id, root, path),
        image_id,
        _read_objects(root, class_names, path),
        report,
        image_id=index,
        stated_size=_stated_size(root),
    )


def _find_image(directory, image_id, root, annotation):
    """Returns the path of the image: that of the id, else that which the annotation names."""
    folder = directory / "JPEGImages"
    named = (root.findtext("filename") or "").strip()
    suffixes = dict.fromkeys((pathlib.Path(named).suffix, *IMAGE_SUFFIXES))
    candidates = [folder / f"{image_id}{suffix}" for suffix in suffixes if suffix]
    if named:
        candidates.append(folder / pathlib.Path(named).name)
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"The image file {folder / f'{image_id}.jpg'} does not exist, nor one with another suffix. "
        f"The annotation {annotation} needs it."
    )


def _read_objects(root, class_names, path):
    """Returns boxes, classes, ignored of the objects in an annotation, and None for areas."""
    boxes, classes, ignored = [], [], []
    for element in root.iterfind("object"):
        classes.append(class_index(_text(element, "name", path), class_names, path))
        box = element.find("bndbox")
        if box is None:
            raise ValueError(f"{path}: an <object> has no <bndbox>.")
        boxes.append([_number(box, key, path) for key in ("xmin", "ymin", "xmax", "ymax")])
        ignored.append(int((element.findtext("difficult") or "0").strip() == "1"))
    return boxes, classes, ignored, None


def _stated_size(root):
    """`(height, width)` as the annotation has it; None if it has none, or zeros."""
    try:
        size = tuple(int(float(root.findtext(f"size/{key}"))) for key in ("height", "width"))
    except (TypeError, ValueError):
        return None
    return size if min(size) > 0 else None


def _parse(path):
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not a valid XML file: {error}") from error


def _text(element, key, path):
    text = element.findtext(key)
    if text is None or not text.strip():
        raise ValueError(f"{path}: an <{element.tag}> has no <{key}>.")
    return text.strip()


def _number(element, key, path):
    text = _text(element, key, path)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{path}: <{key}> must be a number. Received: {text!r}") from None
