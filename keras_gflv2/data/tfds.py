"""Detection datasets of tensorflow-datasets (the package is imported on use).

A dataset below 1 GB on disk is held in memory, encoded, and treated as any list of records. A
larger one is streamed: shuffled in a buffer, and without mosaic, which needs several images.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_gflv2.data.augmentation import PADDING_VALUES, augment, resize
from keras_gflv2.data.options import (
    check_options,
    check_padding_color,
    check_shard,
    shared_seed,
    training_augmentation,
)
from keras_gflv2.data.pipeline import (
    attach_attributes,
    build_dataset,
    finish_augmentation,
    format_boxes,
    graph_function,
    resized_shape,
)
from keras_gflv2.data.records import Report, check_class_names, make_record
from keras_gflv2.data.sampler import MULTIPLE, StreamSampler
from keras_gflv2.data.values import read_number
from keras_gflv2.images import read_image, read_image_size

IN_MEMORY_LIMIT = 1_000_000_000  # bytes on disk
SHUFFLE_BUFFER = 2048  # encoded images
STREAM_BOXES_MULTIPLE = 32


def load_tfds(
    name,
    split,
    *,
    data_dir=None,
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
    streaming=None,
    padding_color=None,
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
        batch_size, image_size, bounding_box_format, train, shuffle, seed, augmentation, cache,
            class_balance, shard, padding_color: see `keras_gflv2.data.build_dataset`.
        invalid_boxes: "drop" repairs boxes, warns, and counts in `ds.report`; "error" raises.
        streaming: whether to read from disk in each epoch; by default above 1 GB. Then boxes are
            padded to a multiple of 32 a batch, `ds.report` counts as the data is read,
            `ds.image_ids` and `ds.file_names` are None and `cache` has no effect. Order and
            augmentation follow from the seed and the epoch; to begin within an epoch, examples
            are read and skipped, not decoded. Of several processes each reads files of its own,
            so that the data needs as many at least.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes. `category_ids` is None:
        tfds does not keep the original ones.

    Raises:
        ImportError: tensorflow-datasets is not installed.
        ValueError: the dataset has no image or no bounding boxes, or options cannot be used.
    """
    check_options(batch_size, image_size, bounding_box_format, train, augmentation, cache)
    builder = _builder(name, data_dir)
    features = DetectionFeatures(builder, class_names)
    report = Report(f"tfds:{builder.info.full_name}:{split}", invalid_boxes)
    if streaming is None:
        streaming = _size_on_disk(builder, split) >= IN_MEMORY_LIMIT
    if not streaming:
        records = features.read_records(split, report)
        return build_dataset(
            records,
            report,
            class_names=features.class_names,
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
            padding_color=padding_color,
        )
    if augmentation is not None and augmentation.mosaic:
        raise ValueError("`mosaic` needs a dataset in memory: pass `streaming=False`.")
    if class_balance:
        raise ValueError("`class_balance` needs a dataset in memory: pass `streaming=False`.")
    pipeline = StreamPipeline(
        features,
        report,
        image_size,
        bounding_box_format,
        training_augmentation(augmentation, train),
        check_padding_color(padding_color),
    )
    shard = check_shard(shard, batch_size, train)
    shuffle = train if shuffle is None else shuffle
    return pipeline.build(split, batch_size, train, shuffle, shared_seed(seed, shard), shard)


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
        return [
            self.record(index, *values, report)
            for index, values in enumerate(examples.as_numpy_iterator())
        ]

    def _class(self, label, name, report):
        if int(label) not in self._index:
            known = self._names[label] if 0 <= label < len(self._names) else int(label)
            raise ValueError(
                f"{report.source}: {name} has an object of the unknown class {known!r}. "
                f"Allowed: {self.class_names}"
            )
        return self._index[int(label)]


class StreamPipeline:
    """Batches of a dataset that is too large for memory.

    Args:
        features: a `DetectionFeatures`.
        report: the `Report` that counts repairs as examples are first read.
        image_size: see `keras_gflv2.data.build_dataset`.
        bounding_box_format: format of the boxes.
        augmentation: an `Augmentation`, or None in evaluation.
        padding_color: RGB of what no picture covers.
    """

    def __init__(
        self, features, report, image_size, bounding_box_format, augmentation, padding_color
    ):
        self.features = features
        self.report = report
        self.image_size = image_size
        self.bounding_box_format = bounding_box_format
        self.augmentation = augmentation
        self.padding_color = padding_color
        self._seen = set()

    def build(self, split, batch_size, train, shuffle, seed, shard=(0, 1)):
        """Returns the dataset of batches, or of this shard's part of each, with its attributes."""
        if shard[1] > 1 and keras.backend.backend() == "jax":
            raise ValueError(
                "On JAX the batches of all processes must have one shape, which files that are "
                "streamed cannot promise: pass `streaming=False`, or load another format."
            )
        examples = self.features.read(split, shard).map(graph_function(self.features.select))
        examples = examples.enumerate()
        count = int(examples.cardinality())
        if count == 0:
            raise ValueError(f"{self.report.source}: the dataset is empty.")
        if shard[1] > 1:
            count = self.features.builder.info.splits[split].num_examples
        num_batches, batch_size = -(-count // batch_size), batch_size // shard[1]
        sampler = StreamSampler(
            batch_size,
            self.image_size,
            train,
            seed,
            self.augmentation.rotate90 if self.augmentation else 0.0,
            shard[0],
        )
        known = count > 0
        full = known and (train or count % batch_size == 0)
        wanted = num_batches * batch_size if train and known else None
        passes = tf.data.Dataset.from_generator(
            sampler.next_pass, output_signature=(tf.TensorSpec([], "int64"),) * 3
        )
        # One pass has one epoch's order and one epoch's plans, wherever it begins.
        dataset = passes.flat_map(
            graph_function(
                lambda epoch, first, seed: tf.data.Dataset.zip(
                    _in_order(examples, shuffle, seed, wanted).skip(first * batch_size),
                    _plans(sampler, epoch, first),
                )
            )
        )
        dataset = dataset.map(
            graph_function(self._example), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        dataset = dataset.padded_batch(
            batch_size, padding_values=BATCH_PADDING, drop_remainder=full
        )
        dataset = dataset.map(
            graph_function(self._finish_batch), num_parallel_calls=tf.data.AUTOTUNE
        )
        attributes = {
            "class_names": self.features.class_names,
            "bounding_box_format": self.bounding_box_format.lower(),
            "padding_color": self.padding_color,
            "category_ids": None,
            "image_ids": None,
            "file_names": None,
            "num_images": count if known else None,
            "digest": self.report.source,
            "report": self.report.counts,
            "shard_position": shard,
            "set_epoch": sampler.set_position,
        }

        def with_length(length):
            counted = dataset
            if known:
                counted = dataset.apply(tf.data.experimental.assert_cardinality(length))
            return attach_attributes(counted.prefetch(2), **attributes)

        def from_position(epoch, step):
            sampler.set_position(epoch, step)
            return with_length(num_batches - step)

        # A pass over an unknown number of images has no step to speak of.
        within = {"from_position": from_position} if known else {}
        return attach_attributes(with_length(num_batches), **within)

    def _example(self, numbered, plan):
        index, values = numbered
        dtypes = ["uint8", "float32", "int32", "int32", "float32", "int64"]
        # Strings and arrays alike go through numpy: PIL reads every kind of image.
        outputs = tf.numpy_function(self._read, [index, *values], dtypes, stateful=False)
        shapes = [[None, None, 3], [None, 4], [None], [None], [None], []]
        outputs = [tf.ensure_shape(value, shape) for value, shape in zip(outputs, shapes)]
        example = dict(zip(("image", "boxes", "classes", "ignored", "areas"), outputs))
        original_size = tf.shape(example["image"])[:2]
        frame = resized_shape(original_size, plan["image_size"])
        if self.augmentation is None:
            example = resize(example, frame)
        else:
            seeds = tf.unstack(tf.random.split(plan["seed"], 2))
            example = augment(example, frame, seeds[0], self.augmentation, self.padding_color)
            example = finish_augmentation(
                example, plan["quarter_turn"], seeds[1], self.augmentation
            )
        return example | {
            "image_sizes": tf.shape(example["image"])[:2],
            "original_sizes": original_size,
            "image_ids": outputs[-1],
            "image_size": plan["image_size"],
        }

    def _read(self, index, *values):
        """Returns the decoded image and the objects of an example, counting repairs once."""
        new = int(index) not in self._seen
        # What is read again was counted before.
        report = self.report if new else Report(self.report.source)
        record = self.features.record(index, *values, report)
        self._seen.add(int(index))
        self.report.warn()
        image = read_image(record.image, exif=False, name=f"{report.source} {record.name}")
        return (
            image,
            record.boxes,
            record.classes,
            record.ignored,
            record.areas,
            np.int64(record.image_id if isinstance(record.image_id, int) else index),
        )

    def _finish_batch(self, batch):
        """Pads to a canvas of the few allowed sizes and to a multiple of 32 boxes."""
        sizes = batch["image_sizes"]
        canvas = _smallest_canvas(batch["image_size"][0], tf.reduce_max(sizes, axis=0))
        images = _pad_images(batch["image"], sizes, canvas, self.padding_color)
        objects = {key: _pad_objects(batch[key], value) for key, value in PADDING_VALUES.items()}
        return {
            "images": images,
            "bounding_boxes": format_boxes(objects, canvas, self.bounding_box_format),
            "image_sizes": sizes,
            "original_sizes": batch["original_sizes"],
            "image_ids": batch["image_ids"],
        }


def _in_order(examples, shuffle, seed, wanted):
    """The examples in the order that a seed gives, and some again up to the number wanted."""

    def ordered(seed):
        if not shuffle:
            return examples
        return examples.shuffle(SHUFFLE_BUFFER, seed=seed, reshuffle_each_iteration=False)

    if wanted is None:
        return ordered(seed)
    # The last batch is filled from another shuffling: full batches, no image left out.
    return ordered(seed).concatenate(ordered(seed + 1).repeat()).take(wanted)


def _plans(sampler, epoch, first):
    """The plans of the examples of an epoch, from a step on."""
    signature = {
        "seed": tf.TensorSpec([None, 2], "int32"),
        "image_size": tf.TensorSpec([None, 2], "int32"),
        "quarter_turn": tf.TensorSpec([None], "bool"),
    }
    return tf.data.Dataset.from_generator(
        sampler.plans, output_signature=signature, args=(epoch, first)
    ).unbatch()


BATCH_PADDING = {
    "image": 0.0,
    **PADDING_VALUES,
    "image_sizes": 0,
    "original_sizes": 0,
    "image_ids": tf.constant(0, "int64"),
    "image_size": 0,
}


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


def _smallest_canvas(image_size, needed):
    """The smallest allowed canvas (2,) for the largest height and width of a batch."""
    # The same edges as in sampler.canvas_edges, of a short side that is a tensor.
    short, longest = image_size[0], image_size[1]
    middle = tf.minimum(-(-short * 4 // 3), longest)
    edges = tf.stack([tf.minimum(short, longest), middle, longest])
    edges = -(-edges // MULTIPLE) * MULTIPLE
    fits = edges[None, :] >= needed[:, None]  # (2, 3)
    return tf.reduce_min(tf.where(fits, edges[None, :], edges.dtype.max), axis=1)


def _pad_images(images, sizes, canvas, color):
    """Pads to the canvas and fills all that is beyond each image with one color."""
    missing = canvas - tf.shape(images)[1:3]
    images = tf.pad(images, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
    rows = tf.range(canvas[0])[None, :, None, None] < sizes[:, 0, None, None, None]
    columns = tf.range(canvas[1])[None, None, :, None] < sizes[:, 1, None, None, None]
    return tf.where(rows & columns, images, tf.constant(color, "float32"))


def _pad_objects(values, padding):
    """Pads (B, n, ...) to a multiple of 32 objects, at least 32."""
    count = tf.shape(values)[1]
    total = tf.maximum(-(-count // STREAM_BOXES_MULTIPLE), 1) * STREAM_BOXES_MULTIPLE
    widths = [[0, 0], [0, total - count]] + [[0, 0]] * (values.shape.rank - 2)
    return tf.pad(values, widths, constant_values=padding)
