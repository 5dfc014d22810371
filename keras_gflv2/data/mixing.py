"""Examples made of several: mosaics and mixed images, as tf functions of a seed."""

import tensorflow as tf

from keras_gflv2.data.augmentation import INSTANCE_KEYS, compact, place
from keras_gflv2.images import MEAN_COLOUR

# Of the two images that are mixed neither fades away: Beta(32, 32) is 0.5 +- 0.06.
MIXUP_BETA = 32.0


def mosaic(examples, seed, min_visible, max_boxes, padding_color=MEAN_COLOUR):
    """Puts a window of each of 4 examples into the quarters of the first one's frame.

    The quarters meet at a random point; objects keep their scale.

    Args:
        examples: 4 examples with float32 images, as `augment` returns them.
        seed: int32 (2,).
        min_visible: see `place`.
        max_boxes: number of boxes N of the result, at least that of an example.
        padding_color: RGB of what no example covers.

    Returns:
        Example of `max_boxes` boxes. Where more boxes than that are in view, the first example
        is returned as it is rather than losing boxes.
    """
    centre_seed, *seeds = tf.unstack(tf.random.split(seed, 5))
    frame = tf.shape(examples[0]["image"])[:2]
    centre = tf.random.stateless_uniform([2], centre_seed, 0.3, 0.7)
    centre = tf.cast(tf.round(centre * tf.cast(frame, "float32")), "int32")
    parts = []
    for i, (example, part_seed) in enumerate(zip(examples, seeds)):
        row, column = divmod(i, 2)
        top = centre[0] * row
        left = centre[1] * column
        height = frame[0] - centre[0] if row else centre[0]
        width = frame[1] - centre[1] if column else centre[1]
        size = tf.stack([height, width])
        window = _window(example, size, part_seed, min_visible, padding_color)
        shift = tf.cast(tf.stack([left, top, left, top]), "float32")
        parts.append(window | {"boxes": window["boxes"] + shift})
    rows = [tf.concat([parts[i]["image"], parts[i + 1]["image"]], axis=1) for i in (0, 2)]
    merged = {key: tf.concat([part[key] for part in parts], axis=0) for key in INSTANCE_KEYS}
    merged["image"] = tf.concat(rows, axis=0)
    visible = tf.reduce_sum(tf.cast(merged["classes"] >= 0, "int32"))
    return tf.cond(
        visible <= max_boxes,
        lambda: compact(merged, max_boxes),
        lambda: compact(examples[0], max_boxes),
    )


def _window(example, size, seed, min_visible, padding_color):
    """Cuts a window of `size` at a random place; a smaller image is padded."""
    free = tf.cast(tf.maximum(tf.shape(example["image"])[:2] - size, 0), "float32")
    offset = tf.cast(tf.round(tf.random.stateless_uniform([2], seed) * free), "int32")
    return place(example, size, -offset, min_visible, padding_color)


def mixup(examples, seed, min_visible, max_boxes, padding_color=MEAN_COLOUR):
    """Mixes two examples pixel by pixel, in the frame of the first; both keep their boxes.

    Args:
        examples: 2 examples with float32 images, as `augment` returns them. The second is cut or
            padded to the frame of the first.
        seed: int32 (2,).
        min_visible: see `place`.
        max_boxes: number of boxes N of the result, at least those of both.
        padding_color: RGB of what the second does not cover.
    """
    first, second = examples
    frame = tf.shape(first["image"])[:2]
    second = place(second, frame, tf.zeros([2], "int32"), min_visible, padding_color)
    # A number of Beta(b, b) is x / (x + y) for two of Gamma(b).
    x, y = tf.unstack(tf.random.stateless_gamma([2], seed, MIXUP_BETA))
    part = x / (x + y)
    mixed = {key: tf.concat([first[key], second[key]], axis=0) for key in INSTANCE_KEYS}
    mixed["image"] = part * first["image"] + (1.0 - part) * second["image"]
    return compact(mixed, max_boxes)
