"""Detection datasets of tensorflow-datasets (the package is imported on use).

A dataset below 1 GB on disk is held in memory, encoded, and treated as any list of records. A
larger one is streamed: shuffled in a buffer, and without mosaic, which needs several images.
"""

import numpy as np
import tensorflow as tf

from keras_gflv2.data.pipeline import dataset_of, graph_function
from keras_gflv2.data.records import Annotations, Report, check_class_names, make_record
from keras_gflv2.data.streaming import StreamPipeline
from keras_gflv2.data.takes_options import takes_options
from keras_gflv2.data.values import read_number
from keras_gflv2.images import read_image_size

IN_MEMORY_LIMIT = 1_000_000_000  # bytes on disk


@takes_options
def load_tfds(
    name,
    split,
    *,
    data_dir=None,
    class_names=None,
    invalid_boxes="drop",
    streaming=None,
    options,
):
    """Loads a split of a tensorflow-datasets detection dataset, such as "voc/2007" or "coco/2017".

    The dataset is downloaded and prepared by tensorflow-datasets if it is not there yet.
    `is_crowd` and `is_difficult` objects come as ignored. Pictures are read as they are stored, as
    tensorflow-datasets reads them; where their EXIF orientation says otherwise, it is counted.

    Args:
        name: name for `tfds.load`, or a `tfds.core.DatasetBuilder`.
        split: tfds split, also a part such as "train[:80%]".
        data_dir: folder of prepared datasets; tfds's own by default.
        class_names: the dataset's class names in the order wanted. By default its own order.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.
        streaming: whether to read from disk in each epoch; by default above 1 GB. Then boxes are
            padded to a multiple of 32 a batch, `ds.report` counts as the data is read,
            `ds.image_ids` and `ds.file_names` are None and `cache` has no effect. Order and
            augmentation follow from the seed and the epoch; to begin within an epoch, examples
            are read and skipped, not decoded. Of several processes each reads files of its own,
            so that the data needs as many at least.
        options: the `LoaderOptions`.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes. `category_ids` is None:
        tfds does not keep the original ones.

    Raises:
        ImportError: tensorflow-datasets is not installed.
        ValueError: the dataset has no image or no bounding boxes, or options cannot be used.
    """
    builder = _builder(name, data_dir)
    features = DetectionFeatures(builder, class_names)
    report = Report(f"tfds:{builder.info.full_name}:{split}", invalid_boxes)
    if streaming is None:
        streaming = _size_on_disk(builder, split) >= IN_MEMORY_LIMIT
    if not streaming:
        records = features.read_records(split, report)
        return dataset_of(Annotations(records, features.class_names, report), options)
    if options.augmentation and options.augmentation.mixes:
        raise ValueError("`mosaic` and `mixup` need a dataset in memory: pass `streaming=False`.")
    if options.class_balance:
        raise ValueError("`class_balance` needs a dataset in memory: pass `streaming=False`.")
    if options.subset:
        raise ValueError(
            "`validation_fraction` needs a dataset in memory: pass `streaming=False`, or name "
            f'parts of the split, "{split}[:80%]" to train on and "{split}[80%:]" for validation.'
        )
    return StreamPipeline(features, report, options).build(split)


def read_tfds(name, split, report, data_dir=None, class_names=None):
    """The `Annotations` of a split, held in memory; arguments as in `load_tfds`."""
    features = DetectionFeatures(_builder(name, data_dir), class_names)
    return Annotations(features.read_records(split, report), features.class_names, report)


class DetectionFeatures:
    """Finds image, boxes and labels among the features of a tfds dataset.

    Args:
        builder: a prepared `tfds.core.DatasetBuilder`.
        class_names: names in the order wanted, or None.
    """

    def __init__(self, builder, class_names=None):
        import tensorflow_datasets as tfds

        self.builder = builder
        features = builder.info.features
        keys = list(features.keys())
        if "image" not in keys:
            raise ValueError(f"{builder.name} has no feature 'image'. It has: {keys}")
        self.objects_key, inner = _find_objects(features, tfds)
        if self.objects_key is None:
            raise ValueError(
                f"{builder.name} is not a detection dataset: none of its features is a list of "
                f"objects with a bounding box and a label. It has: {keys}"
            )
        self.box_key = next(k for k, f in inner.items() if isinstance(f, tfds.features.BBoxFeature))
        labels = [k for k, f in inner.items() if isinstance(f, tfds.features.ClassLabel)]
        self.label_key = "label" if "label" in labels else labels[0]
        self.ignored_keys = [key for key in ("is_crowd", "is_difficult") if key in inner]
        self.area_key = "area" if "area" in inner else None
        for key in filter(None, (*self.ignored_keys, self.area_key)):
            if not any(np.issubdtype(inner[key].np_dtype, kind) for kind in (np.bool_, np.number)):
                raise ValueError(
                    f"{builder.name}: the feature {key!r} of the objects must be a number or a "
                    f"bool. Received: {inner[key]!r}"
                )
        self.id_key = next((k for k in ("image/id", "image_id") if k in keys), None)
        self.name_key = next((k for k in ("image/filename", "filename") if k in keys), None)
        box_format = getattr(inner[self.box_key], "bbox_format", None)
        self.box_format = str(getattr(box_format, "value", box_format) or "REL_YXYX").upper()
        self._map_classes(inner[self.label_key].names, class_names)

    def _map_classes(self, names, class_names):
        """Sets `class_names` and the class index of each label."""
        self.class_names = check_class_names(names if class_names is None else class_names)
        self._index = {
            i: self.class_names.index(n) for i, n in enumerate(names) if n in self.class_names
        }
        self._names = list(names)
        unknown = [name for name in self.class_names if name not in names]
        if unknown:
            raise ValueError(
                f"`class_names` has {unknown}, which {self.builder.name} does not define. "
                f"Its classes: {list(names)}"
            )

    def read(self, split, shard=(0, 1)):
        """Returns the tf.data dataset of examples with encoded images, from the shard's files."""
        import tensorflow_datasets as tfds

        index, count = shard
        context = tf.distribute.InputContext(count, index) if count > 1 else None
        return self.builder.as_dataset(
            split=split,
            decoders={"image": tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(input_context=context),
        )

    def select(self, example):
        """Returns the tensors that `record` needs, in its order."""
        objects = example[self.objects_key]
        boxes = tf.reshape(tf.cast(objects[self.box_key], "float32"), [-1, 4])
        ignored = tf.zeros(tf.shape(boxes)[0], "bool")
        for key in self.ignored_keys:
            ignored |= tf.cast(objects[key], "bool")
        areas = tf.cast(objects[self.area_key], "float32") if self.area_key else -tf.ones([1])
        image_id = example[self.id_key] if self.id_key else tf.constant("")
        name = example[self.name_key] if self.name_key else tf.constant("")
        labels = tf.cast(objects[self.label_key], "int64")
        return example["image"], boxes, labels, ignored, areas, image_id, name

    def record(self, index, image, boxes, labels, ignored, areas, image_id, name, report):
        """Makes a `Record` of the values of one example."""
        name = name.decode("utf-8", "replace") or f"example {index}"
        if isinstance(image, bytes):
            *size, orientation = read_image_size(image, f"{report.source} {name}")
        else:
            size, orientation = image.shape[:2], 1
        report.add("exif_stored", name, orientation != 1)
        if isinstance(image_id, bytes):
            image_id = image_id.decode("utf-8", "replace") or int(index)
        if self.area_key:
            where = f"{report.source}: {name}"
            areas = [read_number(float(area), "'area'", where) for area in areas]
        return make_record(
            image,
            name,
            (
                box_coordinates(boxes, self.box_format, *size),
                [self._class(label, name, report) for label in labels],
                ignored,
                areas if self.area_key else None,
            ),
            report,
            image_id=image_id.item() if isinstance(image_id, np.generic) else image_id,
            size=size,
        )

    def read_records(self, split, report):
        """Reads a whole split into records with encoded images."""
        examples = self.read(split).map(
            graph_function(self.select), num_parallel_calls=tf.data.AUTOTUNE
        )
        return report.read_each(
            enumerate(examples.as_numpy_iterator()),
            lambda entry: self.record(entry[0], *entry[1], report),
        )

    def _class(self, label, name, report):
        if int(label) not in self._index:
            known = self._names[label] if 0 <= label < len(self._names) else int(label)
            raise ValueError(
                f"{report.source}: {name} has an object of the unknown class {known!r}. "
                f"Allowed: {self.class_names}"
            )
        return self._index[int(label)]


def box_coordinates(boxes, box_format, height, width):
    """Converts tfds's box formats to xyxy in pixels, float64 (N, 4)."""
    boxes = boxes.reshape(-1, 4).astype("float64")
    relative = box_format.startswith("REL_")
    order = box_format.removeprefix("REL_")
    if order == "YXYX":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif order == "XYWH":
        boxes = boxes.copy()
        boxes[:, 2:] += boxes[:, :2]
    elif order != "XYXY":
        raise ValueError(f"Bounding boxes in the tfds format {box_format} are not supported.")
    return boxes * [width, height, width, height] if relative else boxes


def _builder(name, data_dir):
    """Returns the prepared builder."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "`load_tfds` needs tensorflow-datasets: pip install tensorflow-datasets"
        ) from error
    builder = (
        name
        if isinstance(name, tfds.core.DatasetBuilder)
        else tfds.builder(name, data_dir=data_dir)
    )
    builder.download_and_prepare()
    return builder


def _size_on_disk(builder, split):
    """Bytes of a split; 0 where tfds does not know."""
    try:
        return builder.info.splits[split].num_bytes or 0
    except (KeyError, ValueError, AttributeError):
        return 0


def _find_objects(features, tfds):
    """Returns key and inner features of the list of objects; (None, None) if there is none."""
    for key in sorted(features.keys(), key=lambda key: key != "objects"):
        inner = getattr(features[key], "feature", None)
        if not hasattr(inner, "items"):
            continue
        kinds = [type(feature) for feature in inner.values()]
        if all(
            any(issubclass(kind, wanted) for kind in kinds)
            for wanted in (tfds.features.BBoxFeature, tfds.features.ClassLabel)
        ):
            return key, dict(inner.items())
    return None, None
