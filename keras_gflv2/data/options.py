"""Checks of the options that all loaders share."""

import numpy as np

from keras_gflv2.contract import check_box_format
from keras_gflv2.data.augmentation import Augmentation
from keras_gflv2.data.sampler import check_image_size
from keras_gflv2.images import MEAN_COLOUR
from keras_gflv2.replicas import process_position


def training_augmentation(augmentation, train):
    """Returns the augmentation to use: None in evaluation, a horizontal flip by default."""
    if not train:
        return None
    return Augmentation() if augmentation is None else augmentation


def check_options(batch_size, image_size, bounding_box_format, train, augmentation, cache):
    """Raises a ValueError that names the option which cannot be used."""
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"`batch_size` must be a positive int. Received: {batch_size!r}")
    check_image_size(image_size, train)
    check_box_format(bounding_box_format)
    if augmentation is not None and not isinstance(augmentation, Augmentation):
        raise ValueError(
            "`augmentation` must be a keras_gflv2.data.Augmentation. "
            f"Received: {type(augmentation).__name__}"
        )
    if augmentation is not None and not train:
        raise ValueError("`augmentation` needs `train=True`. Received: train=False")
    if cache not in ("auto", True, False):
        raise ValueError(f'`cache` must be "auto", True or False. Received: cache={cache!r}')


def check_shard(shard, batch_size, train):
    """Returns `(index, count)` of the process that reads, (0, 1) outside of training.

    Raises:
        ValueError: it is no such pair, or the batch cannot be divided.
    """
    if not train:
        return 0, 1
    if shard == "auto":
        index, count = process_position()
    else:
        try:
            index, count = (int(number) for number in shard)
        except (TypeError, ValueError):
            index = count = 0
        if not 0 <= index < count:
            raise ValueError(
                '`shard` must be "auto" or (index, count) with 0 <= index < count. '
                f"Received: shard={shard!r}"
            )
    if batch_size % count:
        raise ValueError(
            f"`batch_size` is that of all processes together and must be a multiple of their "
            f"number, {count}. Received: batch_size={batch_size}"
        )
    return index, count


def shared_seed(seed, shard):
    """The seed; what all processes use where it was left to chance."""
    return 0 if seed is None and shard[1] > 1 else seed


def check_class_balance(class_balance, train):
    """Raises a ValueError for a fraction that cannot be meant."""
    if not 0 <= class_balance <= 1:
        raise ValueError(
            "`class_balance` must be a fraction of the images, 0..1. "
            f"Received: class_balance={class_balance!r}"
        )
    if class_balance and not train:
        raise ValueError("`class_balance` needs `train=True`. Received: train=False")


def check_padding_color(padding_color):
    """Returns the color of the padding as three floats, ImageNet's mean for None.

    Raises:
        ValueError: it is not RGB in 0..255.
    """
    if padding_color is None:
        return MEAN_COLOUR
    try:
        color = tuple(float(value) for value in padding_color)
    except (TypeError, ValueError):
        color = ()
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise ValueError(
            "`padding_color` must be None or three numbers in 0..255, red, green and blue. "
            f"Received: padding_color={padding_color!r}"
        )
    return color
