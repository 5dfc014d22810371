"""COCO annotation files (instances_*.json) with a folder of images."""

import itertools
import pathlib
import reprlib

import numpy as np

from keras_gflv2.data.files import ImageFolder, read_json
from keras_gflv2.data.pipeline import dataset_of
from keras_gflv2.data.records import TOLERANCE, Annotations, Report, check_class_names, make_record
from keras_gflv2.data.takes_options import takes_options
from keras_gflv2.data.values import (
    IdTable,
    id_order,
    read_flag,
    read_id,
    read_number,
    read_size,
)


@takes_options
def load_coco(
    annotation_file,
    image_dir,
    *,
    class_names=None,
    invalid_boxes="drop",
    allow_outside=False,
    options,
):
    """Loads a dataset in COCO's format.

    Images without annotations are kept; crowds come as ignored. Numbers, flags and ids may be
    strings, as some exporters write them.

    ```python
    val_ds = keras_gflv2.data.load_coco("annotations/instances_val2017.json", "val2017")
    val_ds.class_names, val_ds.category_ids
    ```

    Args:
        annotation_file: path of the JSON file with "images", "annotations" and "categories".
        image_dir: folder of the images. A "file_name" that is a path of another system, or differs
            from the file by the case of its letters, is repaired and counted in `ds.report`.
        class_names: names of the file's categories in the order of the classes. By default the
            categories sorted by their id, without the root category that Roboflow adds.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.
        allow_outside: whether a "file_name" may lead out of `image_dir`, as "../a.jpg" does. Allow
            it for files that you trust only.
        options: the `LoaderOptions`.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes. `ds.image_ids` are the
        file's image ids as they are, and the batches carry them where all are ints, else the index
        into them. `ds.category_ids` are the file's category ids in the order of the classes.

    Raises:
        FileNotFoundError: the annotation file or an image is missing.
        ValueError: the annotation file cannot be used; the message names the file and the key.
    """
    report = Report(annotation_file, invalid_boxes)
    found = read_coco(annotation_file, image_dir, report, class_names, allow_outside)
    return dataset_of(found, options)


def read_coco(annotation_file, image_dir, report, class_names=None, allow_outside=False):
    """The `Annotations` of a COCO file; arguments as in `load_coco`."""
    path = pathlib.Path(annotation_file)
    content = _read_content(path)
    images = [_read_image(entry, path) for entry in content["images"]]
    categories = _read_categories(content["categories"], path)
    if _has_root(categories, content["annotations"], path):
        root, *others = categories
        if class_names is None or any(other["name"] == root["name"] for other in others):
            categories = others
            report.add("root_categories", root["name"])
    categories = _select_categories(categories, class_names, path)
    objects = _read_annotations(content["annotations"], images, categories, path, report)
    folder = ImageFolder(image_dir, allow_outside)
    found = report.read_each(
        list(zip(images, objects)),
        lambda entry: (_make_record(*entry, folder, report, path), entry[1]),
    )
    records = [record for record, _ in found]
    _count_corner_boxes([objects for _, objects in found], records, report)
    return Annotations(
        records,
        [category["name"] for category in categories],
        report,
        [category["id"] for category in categories],
    )


def _read_content(path):
    """Returns the content of the annotation file, checked for its three lists."""
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        found = content.get(key) if isinstance(content, dict) else None
        if not isinstance(found, list):
            raise ValueError(
                f"{path} has no list {key!r}. A COCO file has 'images', 'annotations' and "
                "'categories'."
            )
    for key, none in (("images", "lists no image"), ("categories", "defines no category")):
        if not content[key]:
            raise ValueError(f"{path}: the dataset is empty. {key!r} {none}.")
    return content


def _read_image(entry, path):
    """Returns id, file_name and stated size of an image."""
    image_id = read_id(_value(entry, "id", "an image", path), "'id'", f"{path}: an image")
    what = f"the image {image_id!r}"
    name = _text(_value(entry, "file_name", what, path), "'file_name'", f"{path}: {what}")
    size = read_size(entry.get("height"), entry.get("width"), f"{path}: {what} ({name})")
    return {"id": image_id, "name": name, "size": size}


def _read_categories(categories, path):
    """Returns id, name and supercategory of all categories, sorted by id."""
    found = []
    for entry in categories:
        name = _text(_value(entry, "name", "a category", path), "'name'", f"{path}: a category")
        what = f"the category {name!r}"
        category_id = read_id(_value(entry, "id", what, path), "'id'", f"{path}: {what}")
        parent = entry.get("supercategory")
        found.append({"id": category_id, "name": name, "supercategory": parent})
    return sorted(found, key=lambda category: id_order(category["id"]))


def _has_root(categories, annotations, path):
    """Whether the first category is the root that Roboflow adds: parent of all, without objects."""
    root, *others = categories
    is_parent = others and all(other["supercategory"] == root["name"] for other in others)
    is_first = id_order(root["id"]) == id_order(0) and root["supercategory"] == "none"
    if not is_parent or not is_first:
        return False
    table = IdTable([category["id"] for category in categories], "category", path)
    used = (entry.get("category_id") for entry in annotations if isinstance(entry, dict))
    return all(table.find(value) != 0 for value in used if isinstance(value, (int, float, str)))


def _select_categories(categories, class_names, path):
    """Returns the categories of the given names, in their order; all of them for None."""
    by_name = {}
    for category in categories:
        if category["name"] in by_name:
            raise ValueError(f"{path}: the category name {category['name']!r} occurs twice.")
        by_name[category["name"]] = category
    if class_names is None:
        return categories
    class_names = check_class_names(class_names)
    for name in class_names:
        if name not in by_name:
            raise ValueError(
                f"`class_names` has {name!r}, which {path} does not define. "
                f"Its categories: {list(by_name)}"
            )
    return [by_name[name] for name in class_names]


def _read_annotations(annotations, images, categories, path, report):
    """Returns the objects of each image: lists of boxes, classes, ignored and areas."""
    image_table = IdTable([image["id"] for image in images], "image", path)
    category_table = IdTable([category["id"] for category in categories], "category", path)
    objects = [([], [], [], []) for _ in images]

    def read(entry):
        what = f"annotation {entry.get('id', '?') if isinstance(entry, dict) else entry!r}"
        image_id = _value(entry, "image_id", what, path)
        image_index = image_table.find(read_id(image_id, "'image_id'", f"{path}: {what}"))
        if image_index is None:
            raise ValueError(f"{path}: {what} belongs to the unknown image id {image_id!r}.")
        image = images[image_index]
        of_image = f"(image {image['id']!r}, {image['name']})"
        where = f"{path}: {what} {of_image}"
        category_id = read_id(
            _value(entry, "category_id", what, path, of_image), "'category_id'", where
        )
        class_id = category_table.find(category_id)
        if class_id is None:
            allowed = {category["id"]: category["name"] for category in categories}
            raise ValueError(
                f"{where} has the unknown category id {category_id!r}. Allowed: {allowed}"
            )
        box = _polygon_box(entry) or _value(entry, "bbox", what, path, of_image)
        box = _read_box(box, where)
        flags = [read_flag(entry.get(key), repr(key), where) for key in ("iscrowd", "ignore")]
        return image_index, (box, class_id, int(any(flags)), _read_area(entry, box, where))

    for image_index, values in report.read_each(annotations, read):
        for column, value in zip(objects[image_index], values):
            column.append(value)
    return objects


def _polygon_box(entry):
    """The box around the polygons of an entry without one, None where there is nothing to do."""
    polygons = entry.get("segmentation")
    if entry.get("bbox") not in (None, []) or not isinstance(polygons, list) or not polygons:
        return None
    numbers = list(itertools.chain(*polygons)) if isinstance(polygons[0], list) else polygons
    if len(numbers) < 6 or not all(isinstance(number, (int, float)) for number in numbers):
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _read_box(box, where):
    """Returns xyxy of COCO's x, y, width, height. Null is not a number, as pandas writes it."""
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(
            f"{where} has a 'bbox' that is not [x, y, width, height]. Received: {reprlib.repr(box)}"
        )
    x, y, width, height = (
        float("nan") if value is None else read_number(value, "'bbox'", where, finite=False)
        for value in box
    )
    return [x, y, x + width, y + height]


def _read_area(entry, box, where):
    """Returns the stated area (of the segment, in COCO itself), else that of the box."""
    area = entry.get("area")
    if area in (None, ""):
        return (box[2] - box[0]) * (box[3] - box[1])
    return read_number(area, "'area'", where)


def _make_record(image, objects, folder, report, path):
    where = f"{path}: image {image['id']!r}"
    file, repaired = folder.find([image["name"]], where)
    if file is None:
        raise FileNotFoundError(
            f"The image file {folder.folder / image['name']} does not exist, but {path} lists it "
            f"(id {image['id']!r})."
        )
    report.add("repaired_names", image["name"], repaired)
    return make_record(
        file, image["name"], objects, report, image_id=image["id"], stated_size=image["size"]
    )


def _count_corner_boxes(objects, records, report):
    """Counts boxes that seem to be corners, where nearly all boxes of the file may be such."""
    count, as_corners, beyond = 0, 0, {}
    for record, (boxes, *_) in zip(records, objects):
        boxes = np.array(boxes, "float64").reshape(-1, 4)  # x, y, x + width, y + height
        start, end = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        limit = np.array([record.width, record.height]) + TOLERANCE
        fits = ((end > start) & (end <= limit)).all(axis=-1)
        count += len(boxes)
        as_corners += fits.sum()
        beyond[record.name] = (fits & (boxes[:, 2:] > limit).any(axis=-1)).sum()
    if as_corners >= 0.95 * count and 2 * sum(beyond.values()) >= max(count, 1):
        for name, number in beyond.items():
            report.add("corner_boxes", name, number)


def _text(value, key, where):
    """A name as a string; exporters write numbers for names of digits."""
    is_name = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    if not is_name or not str(value).strip():
        raise ValueError(f"{where}: {key} must be a string. Received: {reprlib.repr(value)}")
    return str(value)


def _value(entry, key, what, path, of_image=""):
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{path}: {what} has no key {key!r} {of_image}".rstrip() + ".")
    return entry[key]
