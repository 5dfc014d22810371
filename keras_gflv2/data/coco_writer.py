"""Writes any dataset as a COCO file."""

import io
import os
import pathlib

from PIL import Image

from keras_gflv2.files import written_whole
from keras_gflv2.images import read_image


def write_coco(found, path, dump):
    """Writes `Annotations` as a COCO file whose image names are relative to one folder.

    Images that are no files, as those of TFDS, are written to a folder beside it.

    Args:
        found: the `Annotations`.
        path: `pathlib.Path` of the JSON file.
        dump: function of `(path, content)` that writes JSON.

    Returns:
        The folder of the images: `load_coco(path, folder)` loads what was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [_file_of(record, index, path) for index, record in enumerate(found.records)]
    absolute = [os.path.abspath(file) for file in files]
    folder = os.path.commonpath([os.path.dirname(file) for file in absolute])
    image_ids = _ids([record.image_id for record in found.records])
    category_ids = _ids(found.category_ids or [])
    if len(category_ids) != len(found.class_names):
        category_ids = list(range(1, len(found.class_names) + 1))
    images, annotations = [], []
    for record, file, image_id in zip(found.records, absolute, image_ids):
        name = pathlib.Path(os.path.relpath(file, folder)).as_posix()
        size = {"height": int(record.height), "width": int(record.width)}
        images.append({"id": image_id, "file_name": name, **size})
        for row in zip(record.boxes, record.classes, record.ignored, record.areas):
            annotations.append(_annotation(*row, image_id, len(annotations) + 1, category_ids))
    categories = [{"id": i, "name": name} for i, name in zip(category_ids, found.class_names)]
    dump(path, {"images": images, "annotations": annotations, "categories": categories})
    return folder


def _annotation(box, label, ignored, area, image_id, number, category_ids):
    x1, y1, x2, y2 = (float(value) for value in box)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_ids[label],
        "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
        "area": round(float(area), 4),
        "iscrowd": int(ignored),
    }


def _ids(values):
    """The values where all are different ints, else 1, 2, ..."""
    ints = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    is_kept = ints and len(set(values)) == len(values)
    return list(values) if is_kept else list(range(1, len(values) + 1))


def _file_of(record, index, path):
    """The file of a record's image, written if it is none."""
    if isinstance(record.image, (str, os.PathLike)):
        return os.fspath(record.image)
    image = record.image() if callable(record.image) else record.image
    suffix = ".png"
    if isinstance(image, bytes):
        with Image.open(io.BytesIO(image)) as opened:
            suffix = ".jpg" if opened.format == "JPEG" else f".{opened.format.lower()}"
    folder = path.with_name(f"{path.stem}_images")
    folder.mkdir(exist_ok=True)
    file = folder / f"{index:06d}{suffix}"
    with written_whole(file) as temporary:
        if isinstance(image, bytes):
            temporary.write_bytes(image)
        else:
            Image.fromarray(read_image(image)).save(temporary, format="PNG")
    return os.fspath(file)
