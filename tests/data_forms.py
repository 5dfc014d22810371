"""One small set of pictures and boxes, written by hand as each annotation tool writes it.

Every function takes a folder, fills it, and returns what is to be loaded. `TRUTH` is what each must
give; the forms differ in how they write it.
"""

import json
import pathlib

import numpy as np
from PIL import Image

NAMES = ["cat", "dog"]
SIZES = {"a": (40, 50), "b": (64, 32), "c": (40, 40), "d": (32, 64)}  # height, width
# Objects as class and xyxy in pixels; "c" has none.
TRUTH = {
    "a": [("cat", (5, 10, 30, 35)), ("dog", (0, 0, 25, 20))],
    "b": [("dog", (8, 16, 24, 48))],
    "c": [],
    "d": [("cat", (16, 8, 48, 24)), ("cat", (32, 0, 64, 16))],
}
SPLITS = {"train": ["a", "b"], "val": ["c", "d"]}


def write_image(path, stem):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = SIZES[stem]
    random = np.random.default_rng(sum(map(ord, stem)))
    Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def objects_of(annotations):
    """{stem: its objects as in `TRUTH`} of what a reader found."""
    found = {}
    for record in annotations.records:
        assert (record.height, record.width) == SIZES[pathlib.PureWindowsPath(record.name).stem]
        names = [annotations.class_names[index] for index in record.classes]
        boxes = [tuple(np.round(box, 3).tolist()) for box in record.boxes]
        found[pathlib.PureWindowsPath(record.name).stem] = list(zip(names, boxes))
    return found


# === YOLO ===


def yolo_lines(stem):
    height, width = SIZES[stem]
    lines = []
    for name, (x1, y1, x2, y2) in TRUTH[stem]:
        center = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
        extent = (x2 - x1) / width, (y2 - y1) / height
        lines.append(f"{NAMES.index(name)} " + " ".join(f"{v:.6f}" for v in (*center, *extent)))
    return "\n".join(lines)


def yolo_polygons(stem):
    """The corners of each box and a point within, as a segment."""
    height, width = SIZES[stem]
    lines = []
    for name, (x1, y1, x2, y2) in TRUTH[stem]:
        points = (x1, y1), (x2, y1), (x2, y2), ((x1 + x2) / 2, (y1 + y2) / 2), (x1, y2)
        values = " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in points)
        lines.append(f"{NAMES.index(name)} {values}")
    return "\n".join(lines)


def ultralytics(folder, lines=yolo_lines):
    for split, stems in SPLITS.items():
        for stem in stems:
            write_image(folder / f"images/{split}/{stem}.jpg", stem)
            if TRUTH[stem]:  # Images without objects have no file.
                write_text(folder / f"labels/{split}/{stem}.txt", lines(stem))
    text = "path: ../datasets/pets  # root\ntrain: images/train\nval: images/val\ntest:\n"
    return write_text(folder / "data.yaml", text + "names:\n  0: cat\n  1: dog\n")


def ultralytics_segments(folder):
    return ultralytics(folder, yolo_polygons)


def ultralytics_lists(folder):
    """Split lists, one of them with paths of another machine, and one folder for both splits."""
    path = ultralytics(folder)
    write_text(folder / "train.txt", "./images/train/a.jpg\n./images/train/b.jpg\n")
    write_text(folder / "val.txt", "/data/pets/images/val/c.jpg\n/data/pets/images/val/d.jpg\n")
    return write_text(path, f"train: [train.txt]\nval: val.txt\nnc: 2\nnames: {NAMES}\n")


def roboflow_yolo(folder):
    for split, stems in SPLITS.items():
        name = "valid" if split == "val" else split
        for stem in stems:
            write_image(folder / name / f"images/{stem}.jpg", stem)
            write_text(folder / name / f"labels/{stem}.txt", yolo_lines(stem))
    text = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
    return write_text(folder / "data.yaml", text + "names: ['cat', 'dog']\nroboflow:\n  version: 1")


def cvat_darknet(folder):
    for split, stems in SPLITS.items():
        for stem in stems:
            write_image(folder / f"obj_{split}_data/{stem}.jpg", stem)
            write_text(folder / f"obj_{split}_data/{stem}.txt", yolo_lines(stem))
        lines = "".join(f"data/obj_{split}_data/{stem}.jpg\n" for stem in stems)
        write_text(folder / f"{split}.txt", lines)
    write_text(folder / "obj.names", "cat\ndog\n")
    text = "classes = 2\ntrain = data/train.txt\nvalid = data/val.txt\nnames = data/obj.names\n"
    return write_text(folder / "obj.data", text + "backup = backup/\n").parent


def label_studio_yolo(folder):
    """Without splits and without a data.yaml."""
    for stem in SIZES:
        write_image(folder / f"images/{stem}.jpg", stem)
        write_text(folder / f"labels/{stem}.txt", yolo_lines(stem))
    write_text(folder / "notes.json", '{"categories": [{"id": 0, "name": "cat"}], "info": {}}')
    return write_text(folder / "classes.txt", "cat\ndog\n").parent


YOLO = (
    ultralytics, ultralytics_segments, ultralytics_lists, roboflow_yolo, cvat_darknet,
    label_studio_yolo,
)  # fmt: skip


# === VOC ===


def voc_xml(stem):
    height, width = SIZES[stem]
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in TRUTH[stem]
    )
    return (
        f"<annotation><folder>images</folder><filename>{stem}.jpg</filename><size><width>{width}"
        f"</width><height>{height}</height><depth>3</depth></size>{objects}</annotation>"
    )


def voc(folder, annotations, images):
    for stem in SIZES:
        write_image(folder / images / f"{stem}.jpg", stem)
        write_text(folder / annotations / f"{stem}.xml", voc_xml(stem))
    return folder


def voc_two_folders(folder):
    return voc(folder, "Annotations", "JPEGImages")


def voc_lower_case(folder):
    return voc(folder, "annotations", "images")


def voc_pets(folder):
    """Oxford's Pets."""
    return voc(folder, "annotations/xmls", "images")


def voc_flat(folder):
    """LabelImg."""
    return voc(folder, "", "")


def voc_deep(folder):
    return voc(folder, "annotations/monday", "images/monday")


VOC = (voc_two_folders, voc_lower_case, voc_pets, voc_flat, voc_deep)


def roboflow_voc(folder):
    for split, stems in SPLITS.items():
        for stem in stems:
            name = "valid" if split == "val" else split
            write_image(folder / name / f"{stem}.jpg", stem)
            write_text(folder / name / f"{stem}.xml", voc_xml(stem))
    return folder


def voc_folders_of_splits(folder):
    for split, stems in SPLITS.items():
        for stem in stems:
            write_image(folder / f"images/{split}/{stem}.jpg", stem)
            write_text(folder / f"annotations/{split}/{stem}.xml", voc_xml(stem))
    return folder


# === CSV ===


def table(folder, rows, header=None, images="", delimiter=","):
    for stem in SIZES:
        write_image(folder / images / f"{stem}.jpg", stem)
    rows = ([header] if header else []) + rows
    text = "\n".join(delimiter.join(map(str, row)) for row in rows)
    return write_text(folder / "labels.csv", text + "\n")


def rows_of(row, empty=None):
    """`row(stem, name, box)` of each object, and `empty(stem)` of images without one."""
    rows = [row(stem, name, box) for stem in TRUTH for name, box in TRUTH[stem]]
    return rows + ([empty("c")] if empty else [])


def keras_retinanet(folder):
    write_text(folder / "classes.csv", "cat,0\ndog,1\n")
    rows = rows_of(
        lambda stem, name, box: (f"{stem}.jpg", *box, name),
        lambda stem: (f"{stem}.jpg", "", "", "", "", ""),
    )
    return table(folder, rows)


def tensorflow_object_detection(folder):
    def row(stem, name, box):
        height, width = SIZES[stem]
        return (f"{stem}.jpg", width, height, name, *box)

    header = "filename,width,height,class,xmin,ymin,xmax,ymax".split(",")
    empty = lambda stem: (f"{stem}.jpg", 40, 40, "", "", "", "", "")  # noqa: E731
    return table(folder, rows_of(row, empty), header, "images")


def left_top(folder):
    header = ["Image Path", "Left", "Top", "Right", "Bottom", "Label"]
    rows = rows_of(
        lambda stem, name, box: (f"photos/{stem}.jpg", *box, name),
        lambda stem: (f"photos/{stem}.jpg", "nan", "nan", "nan", "nan", "nan"),
    )
    return table(folder, rows, header, "photos", ";")


def x_y_width_height(folder):
    def row(stem, name, box):
        x1, y1, x2, y2 = box
        return (stem, name, x1, y1, x2 - x1, y2 - y1)

    header = ["image_id", "class_name", "bbox_x", "bbox_y", "bbox_width", "bbox_height"]
    return table(folder, rows_of(row, lambda stem: (stem, "", "", "", "", "")), header)


def one_column(folder):
    """Kaggle."""

    def row(stem, name, box):
        x1, y1, x2, y2 = box
        height, width = SIZES[stem]
        return (stem, width, height, f'"[{x1}, {y1}, {x2 - x1}, {y2 - y1}]"', name)

    empty = lambda stem: (stem, 40, 40, "", "")  # noqa: E731
    return table(folder, rows_of(row, empty), ["image_id", "width", "height", "bbox", "label"])


def open_images(folder):
    def row(stem, name, box):
        height, width = SIZES[stem]
        x1, y1, x2, y2 = box
        return (stem, "xclick", name, 1, x1 / width, x2 / width, y1 / height, y2 / height, 0)

    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf".split(",")
    return table(folder, rows_of(row, lambda stem: (stem, *[""] * 8)), header)


def automl(folder):
    """Google's AutoML and Vertex AI."""

    def use(stem):
        return "TRAIN" if stem in SPLITS["train"] else "VALIDATION"

    def row(stem, name, box):
        height, width = SIZES[stem]
        x1, y1, x2, y2 = box[0] / width, box[1] / height, box[2] / width, box[3] / height
        uri = f"gs://bucket/pets/{stem}.jpg"
        return (use(stem), uri, name, x1, y1, "", "", x2, y2, "", "")

    empty = lambda stem: (use(stem), f"gs://bucket/pets/{stem}.jpg", *[""] * 9)  # noqa: E731
    return table(folder, rows_of(row, empty))


CSV = (
    keras_retinanet, tensorflow_object_detection, left_top, x_y_width_height, one_column,
    open_images, automl,
)  # fmt: skip


# === COCO ===


def coco_content(stems, name="{}.jpg", first=1, **changes):
    """The content of a COCO file; `changes` replace keys of an annotation, None removes them."""
    images, annotations = [], []
    for index, stem in enumerate(stems):
        height, width = SIZES[stem]
        entry = {"id": index + first, "file_name": name.format(stem)}
        images.append(entry | {"height": height, "width": width})
        for label, (x1, y1, x2, y2) in TRUTH[stem]:
            annotation = {
                "id": len(annotations) + first,
                "image_id": index + first,
                "category_id": NAMES.index(label) + first,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
                "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
            } | changes
            annotations.append({k: v for k, v in annotation.items() if v is not None})
    categories = [{"id": i + first, "name": n, "supercategory": ""} for i, n in enumerate(NAMES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_original(folder):
    """As COCO itself is unpacked."""
    for split, stems in SPLITS.items():
        for stem in stems:
            write_image(folder / f"{split}2017/{stem}.jpg", stem)
        content = coco_content(stems)
        write_text(folder / f"annotations/instances_{split}2017.json", json.dumps(content))
        captions = {"images": content["images"], "annotations": [], "info": {}}
        write_text(folder / f"annotations/captions_{split}2017.json", json.dumps(captions))
    return folder


def roboflow_coco(folder):
    for split, stems in SPLITS.items():
        name = "valid" if split == "val" else split
        content = coco_content(stems)
        for category in content["categories"]:
            category["supercategory"] = "pets"
        root = {"id": 0, "name": "pets", "supercategory": "none"}
        content["categories"].insert(0, root)
        write_text(folder / name / "_annotations.coco.json", json.dumps(content))
        for stem in stems:
            write_image(folder / name / f"{stem}.jpg", stem)
    return folder


def cvat_coco(folder):
    content = coco_content(SIZES, attributes={"occluded": False}, iscrowd=None)
    write_text(folder / "annotations/instances_default.json", json.dumps(content))
    for stem in SIZES:
        write_image(folder / f"images/default/{stem}.jpg", stem)
    return folder


def label_studio_coco(folder, name="images/{}.jpg"):
    content = coco_content(SIZES, name, 0, ignore=0, segmentation=[])
    content["images"][0].update(width=None, height=None)
    write_text(folder / "result.json", json.dumps(content))
    for stem in SIZES:
        write_image(folder / f"images/{stem}.jpg", stem)
    return folder


def label_studio_backslashes(folder):
    return label_studio_coco(folder, "images\\{}.jpg")


def label_studio_urls(folder):
    return label_studio_coco(folder, "http://localhost:8080/data/upload/3/{}.jpg")


def label_studio_local_files(folder):
    return label_studio_coco(folder, "/data/local-files/?d=photos/{}.jpg")


def labelme2coco(folder):
    content = coco_content(SIZES, "/home/me/pets/{}.jpg", 1, area=None, iscrowd=None, bbox=None)
    write_text(folder / "dataset.json", json.dumps(content))
    for stem in SIZES:
        write_image(folder / f"{stem}.jpg", stem)
    return folder


COCO = (
    coco_original, roboflow_coco, cvat_coco, label_studio_coco, label_studio_backslashes,
    label_studio_urls, label_studio_local_files, labelme2coco,
)  # fmt: skip
HAVE_SPLITS = (
    ultralytics, ultralytics_segments, ultralytics_lists, roboflow_yolo, cvat_darknet, automl,
    roboflow_voc, voc_folders_of_splits, coco_original, roboflow_coco,
)  # fmt: skip
FORMS = (*YOLO, *VOC, roboflow_voc, voc_folders_of_splits, *CSV, *COCO)
