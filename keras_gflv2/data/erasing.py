"""Random erasing: a rectangle of an image is painted over."""

import math

import tensorflow as tf

from keras_gflv2.data.augmentation import area

PART = (0.02, 0.2)  # of the image's area
RATIO = (0.3, 1 / 0.3)  # width to height


def erase(example, seed, min_visible, color):
    """Paints a random rectangle of an example over (Zhong et al., 2020, Algorithm 1).

    Args:
        example: dictionary as in `augmentation`.
        seed: int32 (2,).
        min_visible: boxes of which less than this part remains in view become padding; ignored
            regions stay.
        color: RGB of the rectangle.
    """
    size_seed, place_seed = tf.unstack(tf.random.split(seed, 2))
    size = tf.cast(tf.shape(example["image"])[:2], "float32")
    part, ratio = tf.unstack(tf.random.stateless_uniform([2], size_seed))
    part = PART[0] + part * (PART[1] - PART[0])
    ratio = tf.exp(math.log(RATIO[0]) + ratio * math.log(RATIO[1] / RATIO[0]))
    extent = tf.sqrt(part * tf.reduce_prod(size)) * tf.stack([ratio**-0.5, ratio**0.5])
    extent = tf.minimum(tf.round(extent), size)
    start = tf.round(tf.random.stateless_uniform([2], place_seed) * (size - extent))
    end = start + extent
    rows, columns = tf.range(size[0]), tf.range(size[1])
    inside = ((rows >= start[0]) & (rows < end[0]))[:, None]
    inside &= ((columns >= start[1]) & (columns < end[1]))[None, :]
    image = tf.where(inside[..., None], tf.constant(color, "float32"), example["image"])

    boxes = example["boxes"]
    low = tf.maximum(boxes[:, :2], start[::-1])
    high = tf.maximum(tf.minimum(boxes[:, 2:], end[::-1]), low)
    covered = tf.reduce_prod(high - low, axis=1) / tf.maximum(area(boxes), 1e-6)
    kept = (1.0 - covered >= min_visible) | (example["ignored"] == 1)
    return example | {"image": image, "classes": tf.where(kept, example["classes"], -1)}
