"""From records to batches: decode, resize, augment, pad, batch with tf.data.

Every loader of this package ends here, so all datasets carry the same batch and attributes.
"""

import dataclasses
import functools

import keras
import numpy as np
import tensorflow as tf

from keras_gflv2.boxes import ceil_divide
from keras_gflv2.data.augmentation import (
    INSTANCE_KEYS,
    augment,
    compact,
    jitter_colour,
    maybe,
    paste,
    quarter_turn,
    resize,
)
from keras_gflv2.data.digest import records_digest
from keras_gflv2.data.division import divide
from keras_gflv2.data.erasing import erase
from keras_gflv2.data.mixing import mixup, mosaic
from keras_gflv2.data.records import Annotations, check_records
from keras_gflv2.data.sampler import BatchSampler, repeat_factors
from keras_gflv2.data.takes_options import takes_options
from keras_gflv2.data.values import batch_ids
from keras_gflv2.images import read_image, resize_shapes

CACHE_LIMIT = 1_000_000_000  # bytes of decoded pixels
BOXES_MULTIPLE = 8
PREFETCH = 2  # batches


@takes_options
def build_dataset(
    records,
    report,
    *,
    class_names,
    category_ids=None,
    image_ids=None,
    options,
):
    """Makes the `tf.data.Dataset` of a list of records.

    Args:
        records: list of `Record`.
        report: the `Report` of reading them; its warnings are given here.
        class_names: list of str.
        category_ids: the source's own class ids in the order of `class_names`, or None.
        image_ids: the source's own image ids in the order of the records; None for those of the
            records. The batches carry them where all are ints of 64 bits, else the index into
            `ds.image_ids`, which has them as they are.
        options: the `LoaderOptions`.

    Returns:
        `tf.data.Dataset` of `{"images", "bounding_boxes": {"boxes", "classes", "ignored", "areas"},
        "image_sizes", "original_sizes", "image_ids"}` with the attributes `class_names`,
        `bounding_box_format`, `padding_color`, `category_ids`, `image_ids`, `file_names`,
        `num_images`, `box_counts` of the classes, `report`, and `annotations`, the `Annotations`
        that it was made of;
        to resume, `set_epoch(epoch, step=0)` makes the next pass that of the given epoch from a
        step on, and `from_position(epoch, step)` returns the dataset of that one pass, with its
        length; `images_of(epoch, step)` gives the indices of a batch's images, in all processes;
        `shard_position` is `(index, count)`.
    """
    if image_ids is not None:
        records = [dataclasses.replace(r, image_id=i) for r, i in zip(records, image_ids)]
    return dataset_of(Annotations(records, class_names, report, category_ids), options)


def dataset_of(found, options):
    """`build_dataset` of the `Annotations` of a loader, which has a `LoaderOptions` already."""
    shard = options.shard_position()
    check_records(found.records, found.report, options.train)
    records = divide(found.records, options.validation_fraction, options.subset, options.split_seed)
    image_ids = [record.image_id for record in records]
    augmentation = options.augmentation
    sampler = BatchSampler(
        sizes=[(record.height, record.width) for record in records],
        batch_size=options.batch_size,
        image_size=options.image_size,
        train=options.train,
        shuffle=options.shuffle,
        seed=options.seed_of(shard),
        rotate90=augmentation.rotate90 if augmentation else 0.0,
        mosaic=augmentation.mosaic if augmentation else 0.0,
        mixup=augmentation.mixup if augmentation else 0.0,
        mosaic_epochs=augmentation.mosaic_epochs if augmentation else None,
        repeats=_repeats(records, len(found.class_names), options.class_balance),
        shard=shard,
    )
    reader = RecordReader(records, options.cache, batch_ids(image_ids))
    dataset = plan_dataset(sampler)
    assemble = ExampleAssembler(reader, options)
    dataset = dataset.map(
        graph_function(assemble), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    dataset = dataset.batch(options.batch_size // shard[1], drop_remainder=sampler.always_full)
    dataset = _fix_canvas(dataset, sampler.canvas_sizes)
    attributes = {
        "class_names": list(found.class_names),
        "bounding_box_format": options.bounding_box_format.lower(),
        "padding_color": options.padding_color,
        "category_ids": found.category_ids and list(found.category_ids),
        "image_ids": image_ids,
        "file_names": [record.name for record in records],
        "num_images": len(records),
        "annotations": dataclasses.replace(found, records=records),
        "box_counts": count_boxes(records, len(found.class_names)),
        "digest": records_digest(records),
        "report": found.report.as_dict(records),
        "set_epoch": sampler.set_position,
        "images_of": sampler.images_of,
        "shard_position": shard,
    }

    def with_length(length):
        counted = dataset.apply(tf.data.experimental.assert_cardinality(length))
        return attach_attributes(counted.prefetch(PREFETCH), **attributes)

    def from_position(epoch, step):
        sampler.set_position(epoch, step)
        return with_length(sampler.num_batches - step)

    return attach_attributes(with_length(sampler.num_batches), from_position=from_position)


def graph_function(function):
    """Marks a function for `Dataset.map` as one without Python control flow on tensors.

    AutoGraph would rewrite the source of all that it calls: most of the time to the first batch.
    """
    return tf.autograph.experimental.do_not_convert(lambda *args: function(*args))


def attach_attributes(dataset, **attributes):
    """Sets attributes on a dataset, as `keras.utils.image_dataset_from_directory` does."""
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def count_boxes(records, num_classes):
    """How many boxes each class has, those to be ignored left out: a list of ints."""
    counts = np.zeros(num_classes, "int64")
    for record in records:
        counts += np.bincount(record.classes[record.ignored == 0], minlength=num_classes)
    return counts.tolist()


def _repeats(records, num_classes, class_balance):
    if not class_balance:
        return None
    classes = [record.classes[record.ignored == 0] for record in records]
    return repeat_factors(classes, num_classes, class_balance)


class RecordReader:
    """Reads the image and the padded objects of a record, for `tf.numpy_function`.

    Args:
        records: list of `Record`.
        cache: True, False, or "auto" to keep decoded images if all take less than 1 GB.
        image_ids: ints by which the batches name the records.
    """

    def __init__(self, records, cache, image_ids):
        self.records = records
        self.image_ids = image_ids
        most = max(len(record.boxes) for record in records)
        self.max_boxes = ceil_divide(max(most, 1), BOXES_MULTIPLE) * BOXES_MULTIPLE
        if cache == "auto":
            size = sum(3 * record.height * record.width for record in records)
            cache = size < CACHE_LIMIT
        self._cache = {} if cache else None
        # int64 only where it is needed: JAX has none.
        largest = max(abs(image_id) for image_id in image_ids)
        self.id_dtype = "int32" if largest < 2**31 else "int64"

    def __call__(self, index):
        """Returns image (h, w, 3) uint8, boxes (N, 4), classes, ignored, areas (N,), id."""
        record = self.records[index]
        padding = self.max_boxes - len(record.boxes)
        return (
            self.image(index),
            np.pad(record.boxes, [(0, padding), (0, 0)]),
            np.pad(record.classes, (0, padding), constant_values=-1),
            np.pad(record.ignored, (0, padding)),
            np.pad(record.areas, (0, padding)),
            np.asarray(self.image_ids[index], self.id_dtype),
        )

    def image(self, index):
        """Returns the picture as `uint8` (h, w, 3)."""
        index = int(index)
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        record = self.records[index]
        if callable(record.image):
            image = record.image()
        else:
            image = read_image(record.image, exif=record.exif, name=record.file)
        if image.shape[:2] != (record.height, record.width):
            raise ValueError(
                f"The image {record.file} is {image.shape[:2]} pixels high and wide "
                f"but was {(record.height, record.width)} when the dataset was made."
            )
        if self._cache is not None:
            self._cache[index] = image
        return image

    def read(self, index):
        """The same as a dictionary of tensors, in a tf.data graph."""
        values = tf.numpy_function(
            self,
            [index],
            ["uint8", "float32", "int32", "int32", "float32", self.id_dtype],
            stateful=False,
        )
        image, boxes, classes, ignored, areas, image_id = values
        count = self.max_boxes
        return {
            "image": tf.ensure_shape(image, [None, None, 3]),
            "boxes": tf.ensure_shape(boxes, [count, 4]),
            "classes": tf.ensure_shape(classes, [count]),
            "ignored": tf.ensure_shape(ignored, [count]),
            "areas": tf.ensure_shape(areas, [count]),
        }, tf.ensure_shape(image_id, [])


class ExampleAssembler:
    """Turns the plan of one example into its part of the batch, in a tf.data graph.

    Args:
        reader: a `RecordReader`.
        options: the `LoaderOptions`.
    """

    def __init__(self, reader, options):
        self.reader = reader
        self.augmentation = options.augmentation  # or None for the picture as it is
        self.own = options.own_augmentation
        self.bounding_box_format = options.bounding_box_format
        self.padding_color = options.padding_color

    def __call__(self, plan):
        example, image_id = self.reader.read(plan["indices"][0])
        original_size = tf.shape(example["image"])[:2]
        if self.augmentation is None:
            example = resize(example, resize_shapes(original_size, plan["image_size"]))
        else:
            example = self._augment(example, plan)
        image = paste(example["image"], plan["canvas"], tf.zeros([2], "int32"), self.padding_color)
        return {
            "images": tf.ensure_shape(image, [None, None, 3]),
            "bounding_boxes": format_boxes(example, plan["canvas"], self.bounding_box_format),
            "image_sizes": tf.shape(example["image"])[:2],
            "original_sizes": original_size,
            "image_ids": image_id,
        }

    def _augment(self, example, plan):
        seeds = tf.unstack(tf.random.split(plan["seed"], 6))
        augmentation, max_boxes = self.augmentation, self.reader.max_boxes
        example = self._prepare(example, plan, seeds[0])
        if augmentation.mixes:
            # Of a mosaic: four quarters show about as many as one whole image.
            max_boxes *= 2
            example = tf.switch_case(
                tf.cast(plan["mosaic"], "int32") + 2 * tf.cast(plan["mixup"], "int32"),
                [
                    lambda: compact(example, max_boxes),
                    lambda: self._mixed(mosaic, 4, example, plan, seeds[1:5], max_boxes),
                    lambda: self._mixed(mixup, 2, example, plan, seeds[1:5], max_boxes),
                ],
            )
        elif augmentation.moves or augmentation.erase:
            example = compact(example, max_boxes)
        example = finish_augmentation(
            example, plan["quarter_turn"], seeds[5], augmentation, self.padding_color
        )
        return self.own(example, seeds[5]) if self.own else example

    def _mixed(self, mix, count, example, plan, seeds, max_boxes):
        """The example together with those after it in the plan."""
        others = [
            self._prepare(self.reader.read(plan["indices"][i])[0], plan, seeds[i - 1])
            for i in range(1, count)
        ]
        min_visible = self.augmentation.min_visible
        return mix([example, *others], seeds[3], min_visible, max_boxes, self.padding_color)

    def _prepare(self, example, plan, seed):
        frame = resize_shapes(tf.shape(example["image"])[:2], plan["image_size"])
        return augment(example, frame, seed, self.augmentation, self.padding_color)


def finish_augmentation(example, turn, seed, augmentation, padding_color):
    """Changes the colors, erases a part, and turns the image by 90 degrees where `turn` says so."""
    if augmentation.colours:
        image = jitter_colour(example["image"], seed, augmentation)
        example = example | {"image": image}
    if augmentation.erase:
        chance, seed = tf.unstack(tf.random.split(tf.random.fold_in(seed, 1), 2))
        function = functools.partial(
            erase, seed=seed, min_visible=augmentation.min_visible, color=padding_color
        )
        example = maybe(augmentation.erase, chance, function, example)
    if augmentation.rotate90:
        example = tf.cond(turn, lambda: quarter_turn(example), lambda: dict(example))
    return example


def format_boxes(example, canvas, bounding_box_format):
    """Returns the objects with their boxes, xyxy in pixels, in the given format."""
    objects = {key: example[key] for key in INSTANCE_KEYS}
    boxes = keras.utils.bounding_boxes.convert_format(
        objects["boxes"],
        source="xyxy",
        target=bounding_box_format.lower(),
        height=tf.cast(canvas[0], "float32"),
        width=tf.cast(canvas[1], "float32"),
        dtype="float32",
    )
    return objects | {"boxes": boxes}


def plan_dataset(sampler):
    """Dataset of example plans; each pass over it is a new epoch of the sampler."""
    signature = {
        "indices": tf.TensorSpec([None, 4], "int64"),
        "seed": tf.TensorSpec([None, 2], "int32"),
        "image_size": tf.TensorSpec([None, 2], "int32"),
        "canvas": tf.TensorSpec([None, 2], "int32"),
        "quarter_turn": tf.TensorSpec([None], "bool"),
        "mosaic": tf.TensorSpec([None], "bool"),
        "mixup": tf.TensorSpec([None], "bool"),
    }
    # A batch of plans a step: Python is called once a batch only.
    return tf.data.Dataset.from_generator(sampler, output_signature=signature).unbatch()


def _fix_canvas(dataset, canvas_sizes):
    """Declares height and width where all batches have the same."""
    if len(canvas_sizes) != 1:
        return dataset
    height, width = canvas_sizes[0]

    def declare(batch):
        images = tf.ensure_shape(batch["images"], [None, height, width, 3])
        return batch | {"images": images}

    return dataset.map(graph_function(declare))
