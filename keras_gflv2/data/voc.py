"""Pascal VOC annotations: an XML file for each image."""

import ntpath
import pathlib

from keras_gflv2.data.division import divide
from keras_gflv2.data.files import ImageFolder, parse_xml
from keras_gflv2.data.pipeline import dataset_of
from keras_gflv2.data.records import (
    Annotations,
    Report,
    check_class_names,
    class_index,
    make_record,
)
from keras_gflv2.data.takes_options import takes_options
from keras_gflv2.data.values import read_flag, read_number, read_size
from keras_gflv2.data.voc_layout import voc_layout
from keras_gflv2.data.yolo_layout import IMAGE_SUFFIXES

VALIDATION_FRACTION = 0.2  # of a folder that has no lists of its splits


@takes_options
def load_voc(
    directory,
    split=None,
    *,
    class_names=None,
    invalid_boxes="drop",
    options,
):
    """Loads a Pascal VOC folder, or a split of it.

    Without lists of splits, the XML files and the images may be in one folder, in two of the usual
    names (Annotations and JPEGImages, annotations and images, ...), and in folders of their split.
    Coordinates are used as they are: nothing is subtracted. Difficult objects come as ignored.

    ```python
    train_ds = keras_gflv2.data.load_voc("VOC2007", "trainval", train=True, batch_size=4)
    train_ds.class_names
    ```

    Args:
        directory: folder with `Annotations`, `ImageSets/Main` and `JPEGImages`; or one as above.
        split: name of a list in `ImageSets/Main` or of a folder, such as "train"; None for all
            images. In a folder without lists, "train" and "val" are four fifths and one fifth of
            the images, by a hash of their names; `validation_fraction` divides them otherwise.
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
    report = Report(pathlib.Path(directory) / (split or ""), invalid_boxes)
    return dataset_of(read_voc(directory, split, report, class_names), options)


def read_voc(directory, split, report, class_names=None):
    """The `Annotations` of a VOC folder; arguments as in `load_voc`."""
    layout = voc_layout(pathlib.Path(directory), split, report)
    if class_names is None:
        class_names = _find_class_names(layout.all_annotations, layout.directory, report)
    class_names = check_class_names(class_names)
    folder = ImageFolder(layout.images)
    records = report.read_each(
        layout.ids, lambda name: _read_record(layout, name, folder, class_names, report)
    )
    if layout.is_divided:
        records = divide(records, VALIDATION_FRACTION, layout.split)
        for record in records:
            report.add("seeded_split", record.name)
    return Annotations(records, class_names, report)


def _find_class_names(files, directory, report):
    names = set()

    def read(path):
        for element in parse_xml(path).iterfind("object"):
            names.add(_text(element, "name", f"{path}: an object"))

    report.read_each(files, read)
    if not names:
        raise ValueError(
            f"{directory} holds no object, so there are no class names. Pass `class_names`."
        )
    return sorted(names)


def _read_record(layout, image_id, folder, class_names, report):
    path = layout.annotations / f"{image_id}.xml"
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
