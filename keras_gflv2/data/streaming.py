"""Batches of a split of tensorflow-datasets that memory cannot hold, read anew in each epoch.

Shuffled in a buffer, and without mosaic, which needs several images.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_gflv2.boxes import ceil_divide
from keras_gflv2.data.augmentation import PADDING_VALUES, augment, resize
from keras_gflv2.data.pipeline import (
    attach_attributes,
    finish_augmentation,
    format_boxes,
    graph_function,
)
from keras_gflv2.data.records import Report
from keras_gflv2.data.sampler import StreamSampler
from keras_gflv2.images import read_image, resize_shapes

SHUFFLE_BUFFER = 2048  # encoded images
STREAM_BOXES_MULTIPLE = 32
GRAPH_SEED = 1


class StreamPipeline:
    """Batches of a dataset that is too large for memory.

    Args:
        features: a `DetectionFeatures`.
        report: the `Report` that counts repairs as examples are first read.
        options: the `LoaderOptions`.
    """

    def __init__(self, features, report, options):
        self.features = features
        self.report = report
        self.options = options
        self.augmentation = options.augmentation
        self.padding_color = options.padding_color
        self._seen = set()

    def build(self, split):
        """Returns the dataset of batches, or of this shard's part of each, with its attributes."""
        options = self.options
        shard = options.shard_position()
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
        num_batches = ceil_divide(count, options.batch_size)
        batch_size = options.batch_size // shard[1]
        sampler = StreamSampler(
            batch_size,
            options.image_size,
            options.train,
            options.seed_of(shard),
            self.augmentation.rotate90 if self.augmentation else 0.0,
            shard[0],
        )
        known = count > 0
        full = known and (options.train or count % batch_size == 0)
        wanted = num_batches * batch_size if options.train and known else None
        passes = tf.data.Dataset.from_generator(
            sampler.next_pass, output_signature=(tf.TensorSpec([], "int64"),) * 3
        )
        # One pass has one epoch's order and one epoch's plans, wherever it begins.
        dataset = passes.flat_map(
            graph_function(
                lambda epoch, first, seed: tf.data.Dataset.zip(
                    _in_order(examples, options.shuffle, seed, wanted).skip(first * batch_size),
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
            "bounding_box_format": options.bounding_box_format.lower(),
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
        frame = resize_shapes(original_size, plan["image_size"])
        if self.augmentation is None:
            example = resize(example, frame)
        else:
            seeds = tf.unstack(tf.random.split(plan["seed"], 2))
            example = augment(example, frame, seeds[0], self.augmentation, self.padding_color)
            example = finish_augmentation(
                example, plan["quarter_turn"], seeds[1], self.augmentation, self.padding_color
            )
            if self.options.own_augmentation:
                example = self.options.own_augmentation(example, seeds[1])
        return example | {
            "image_sizes": tf.shape(example["image"])[:2],
            "original_sizes": original_size,
            "image_ids": outputs[-1],
            "edges": plan["edges"],
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
        canvas = _smallest_canvas(batch["edges"][0], tf.reduce_max(sizes, axis=0))
        images = _pad_images(batch["image"], sizes, canvas, self.padding_color)
        objects = {key: _pad_objects(batch[key], value) for key, value in PADDING_VALUES.items()}
        return {
            "images": images,
            "bounding_boxes": format_boxes(objects, canvas, self.options.bounding_box_format),
            "image_sizes": sizes,
            "original_sizes": batch["original_sizes"],
            "image_ids": batch["image_ids"],
        }


def _in_order(examples, shuffle, seed, wanted):
    """The examples in the order that a seed gives, and some again up to the number wanted."""

    def ordered(seed):
        if not shuffle:
            return examples
        # The order is that of `seed` whatever the global one is, which stays as it is: this is
        # the seed of a graph. With a global seed of 0 TensorFlow fails on a tensor for `seed`.
        tf.random.set_seed(GRAPH_SEED)
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
        "edges": tf.TensorSpec([None, 3], "int32"),
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
    "edges": 0,
}


def _smallest_canvas(edges, needed):
    """The smallest allowed canvas (2,) for the largest height and width of a batch."""
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
    total = ceil_divide(tf.maximum(count, 1), STREAM_BOXES_MULTIPLE) * STREAM_BOXES_MULTIPLE
    widths = [[0, 0], [0, total - count]] + [[0, 0]] * (values.shape.rank - 2)
    return tf.pad(values, widths, constant_values=padding)
