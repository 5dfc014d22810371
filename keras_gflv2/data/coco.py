"""COCO annotation files (instances_*.json) with a folder of images."""

import json
import pathlib

from keras_gflv2.data.pipeline import build_dataset
from keras_gflv2.data.records import Report, check_class_names, make_record


def load_coco(
    annotation_file,
    image_dir,
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
    """Loads a dataset in COCO's format.

    Images without annotations are kept; crowds come as ignored.

    ```python
    val_ds = keras_gflv2.data.load_coco("annotations/instances_val2017.json", "val2017")
    val_ds.class_names, val_ds.category_ids
    ```

    Args:
        annotation_file: path of the JSON file with "images", "annotations" and "categories".
        image_dir: folder of the images.
        class_names: names of the file's categories in the order of the classes. By default the
            categories sorted by their id.
        batch_size, image_size, bounding_box_format, train, shuffle, seed, augmentation, cache,
            class_balance, shard: see `keras_gflv2.data.build_dataset`.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes. The batches carry COCO's
        image ids; `ds.category_ids` are COCO's category ids in the order of the classes.

    Raises:
        FileNotFoundError: the annotation file or an image is missing.
        ValueError: the annotation file cannot be used; the message names the file and the key.
    """
    path = pathlib.Path(annotation_file)
    content = _read_json(path)
    report = Report(path, invalid_boxes)
    class_names, category_ids = _read_categories(content["categories"], class_names, path)
    objects = _read_annotations(content, category_ids, class_names, path)
    records = [
        _read_record(entry, index, pathlib.Path(image_dir), objects, report, path)
        for index, entry in enumerate(content["images"])
    ]
    return build_dataset(
        records,
        report,
        class_names=class_names,
        category_ids=category_ids,
        image_ids=[entry["id"] for entry in content["images"]],
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


def _read_json(path):
    """Returns the content of the annotation file, checked for its three lists."""
    if not path.is_file():
        raise FileNotFoundError(f"The annotation file {path} does not exist.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a valid JSON file: {error}") from error
    for key in ("images", "annotations", "categories"):
        found = content.get(key) if isinstance(content, dict) else None
        if not isinstance(found, list):
            raise ValueError(
                f"{path} has no list {key!r}. A COCO file has 'images', 'annotations' and "
                "'categories'."
            )
    if not content["images"]:
        raise ValueError(f"{path}: the dataset is empty. 'images' lists no image.")
    return content


def _read_categories(categories, class_names, path):
    """Returns the class names and COCO's ids, both in the order of the classes."""
    by_name = {}
    for entry in categories:
        name = str(_value(entry, "name", "a category", path))
        if name in by_name:
            raise ValueError(f"{path}: the category name {name!r} occurs twice.")
        by_name[name] = _value(entry, "id", f"the category {name!r}", path)
    if len(set(by_name.values())) < len(by_name):
        raise ValueError(f"{path}: two categories have the same 'id'.")
    if class_names is None:
        class_names = sorted(by_name, key=by_name.get)
    class_names = check_class_names(class_names)
    for name in class_names:
        if name not in by_name:
            raise ValueError(
                f"`class_names` has {name!r}, which {path} does not define. "
                f"Its categories: {sorted(by_name, key=by_name.get)}"
            )
    return class_names, [by_name[name] for name in class_names]


def _read_annotations(content, category_ids, class_names, path):
    """Returns the objects of each image id: lists of boxes, classes, ignored and areas."""
    objects = {}
    for entry in content["images"]:
        image_id = _value(entry, "id", "an image", path)
        if image_id in objects:
            raise ValueError(f"{path}: the image id {image_id} occurs twice.")
        objects[image_id] = ([], [], [], [])
    classes = {category_id: index for index, category_id in enumerate(category_ids)}
    for entry in content["annotations"]:
        what = f"annotation {entry.get('id', '?') if isinstance(entry, dict) else entry!r}"
        image_id = _value(entry, "image_id", what, path)
        if image_id not in objects:
            raise ValueError(f"{path}: {what} belongs to the unknown image id {image_id!r}.")
        category_id = _value(entry, "category_id", what, path)
        if category_id not in classes:
            allowed = dict(zip(category_ids, class_names))
            raise ValueError(
                f"{path}: {what} has the unknown category id {category_id!r}. Allowed: {allowed}"
            )
        box = _read_box(_value(entry, "bbox", what, path), what, path)
        values = (
            box,
            classes[category_id],
            int(bool(entry.get("iscrowd", 0)) or bool(entry.get("ignore", 0))),
            _area(entry.get("area"), box, what, path),
        )
        for column, value in zip(objects[image_id], values):
            column.append(value)
    return objects


def _read_box(box, what, path):
    """Returns xyxy of COCO's x, y, width, height."""
    try:
        x, y, width, height = (float("nan") if v is None else float(v) for v in box)
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: {what} has a 'bbox' that is not [x, y, width, height]. Received: {box!r}"
        ) from None
    return [x, y, x + width, y + height]


def _area(area, box, what, path):
    """Returns the stated area (of the segment, in COCO itself), else that of the box."""
    if area is None:
        return (box[2] - box[0]) * (box[3] - box[1])
    try:
        return float(area)
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: {what} has an 'area' that is not a number. Received: {area!r}"
        ) from None


def _read_record(entry, index, image_dir, objects, report, path):
    image_id = entry["id"]
    name = str(_value(entry, "file_name", f"the image {image_id}", path))
    image = image_dir / name
    if not image.is_file():
        raise FileNotFoundError(
            f"The image file {image} does not exist, but {path} lists it (id {image_id})."
        )
    height, width = entry.get("height"), entry.get("width")
    return make_record(
        image,
        name,
        objects[image_id],
        report,
        image_id=image_id if isinstance(image_id, int) else index,
        stated_size=(height, width) if height and width else None,
    )


def _value(entry, key, what, path):
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{path}: {what} has no key {key!r}.")
    return entry[key]
