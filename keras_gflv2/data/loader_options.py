"""The options that all loaders share: written, documented and checked in one place."""

import dataclasses

import numpy as np

from keras_gflv2.contract import check_box_format
from keras_gflv2.data.augmentation import Augmentation
from keras_gflv2.data.division import check_subset
from keras_gflv2.data.own_augmentation import OwnAugmentation, split_augmentation
from keras_gflv2.data.sampler import check_image_size
from keras_gflv2.images import MEAN_COLOUR
from keras_gflv2.replicas import process_position


@dataclasses.dataclass
class LoaderOptions:
    """How records become batches. Every loader takes these as keyword arguments.

    Args:
        batch_size: images per batch. In training every batch is full; else the last may be smaller.
        image_size: `(short, longest)` in pixels, or `((low, high), longest)` in training.
        bounding_box_format: format of the boxes in the batches. Relative formats are fractions of
            the padded batch's height and width.
        train: whether to augment, to group images by orientation, and to fill the last batches.
        shuffle: whether to draw a new order for each epoch; `train` by default.
        seed: int; the same seed gives the same batches. None draws one.
        augmentation: an `Augmentation`; by default a horizontal flip of every other image. Or a
            function or layer of Keras or KerasCV that changes an image and its boxes, or a list of
            them, which may begin with an `Augmentation`: see `OwnAugmentation`.
        cache: whether to keep decoded images in memory; `"auto"` does below 1 GB.
        class_balance: in training, show classes that occur in fewer than this fraction of the
            images more often: sqrt(class_balance / fraction) times, with the images they are in.
        shard: in training, `(index, count)` for one of `count` processes that train together, or
            `"auto"` to ask the backend: each gets its part of every batch, and reads no more.
            `batch_size` is that of all together. Without a `seed` all of them use 0.
        padding_color: RGB in 0..255 of the padding and of what augmentation moves into the
            picture. By default the mean of ImageNet, which the normalization of this package's
            backbones makes zero; a backbone with another mean needs that one.
        validation_fraction: part of the images that is for validation, 0..1. Which ones follows
            from a hash of their names: nearly all stay where they are when others are added.
        subset: with `validation_fraction`, which part to load: `"train"` or `"val"`.
        split_seed: int; another seed makes another division.

    Raises:
        ValueError: an option cannot be used; the message names it.
    """

    batch_size: int = 8
    image_size: tuple = (800, 1333)
    bounding_box_format: str = "xyxy"
    train: bool = False
    shuffle: bool | None = None
    seed: int | None = None
    augmentation: object = None
    cache: bool | str = "auto"
    class_balance: float = 0.0
    shard: tuple | str = "auto"
    padding_color: tuple | None = None
    validation_fraction: float = 0.0
    subset: str | None = None
    split_seed: int = 0

    def __post_init__(self):
        if not isinstance(self.batch_size, (int, np.integer)) or self.batch_size < 1:
            raise ValueError(f"`batch_size` must be a positive int. Received: {self.batch_size!r}")
        check_image_size(self.image_size, self.train)
        check_box_format(self.bounding_box_format)
        self._check_augmentation()
        if self.cache not in ("auto", True, False):
            raise ValueError(
                f'`cache` must be "auto", True or False. Received: cache={self.cache!r}'
            )
        self._check_class_balance()
        check_subset(self.validation_fraction, self.subset)
        self.padding_color = _rgb(self.padding_color)
        if self.shuffle is None:
            self.shuffle = self.train

    def _check_augmentation(self):
        functions = []
        if self.augmentation is not None:
            if not self.train:
                raise ValueError("`augmentation` needs `train=True`. Received: train=False")
            self.augmentation, functions = split_augmentation(self.augmentation)
        elif self.train:
            self.augmentation = Augmentation()
        self.own_augmentation = OwnAugmentation(functions, self.bounding_box_format)

    def _check_class_balance(self):
        if not 0 <= self.class_balance <= 1:
            raise ValueError(
                "`class_balance` must be a fraction of the images, 0..1. "
                f"Received: class_balance={self.class_balance!r}"
            )
        if self.class_balance and not self.train:
            raise ValueError("`class_balance` needs `train=True`. Received: train=False")

    def shard_position(self):
        """`(index, count)` of the process that reads, (0, 1) outside of training.

        Raises:
            ValueError: `shard` is no such pair, or the batch cannot be divided.
        """
        if not self.train:
            return 0, 1
        if self.shard == "auto":
            index, count = process_position()
        else:
            try:
                index, count = (int(number) for number in self.shard)
            except (TypeError, ValueError):
                index = count = 0
            if not 0 <= index < count:
                raise ValueError(
                    '`shard` must be "auto" or (index, count) with 0 <= index < count. '
                    f"Received: shard={self.shard!r}"
                )
        if self.batch_size % count:
            raise ValueError(
                f"`batch_size` is that of all processes together and must be a multiple of their "
                f"number, {count}. Received: batch_size={self.batch_size}"
            )
        return index, count

    def seed_of(self, shard):
        """The seed of a process `(index, count)`: what all use where it was left to chance."""
        return 0 if self.seed is None and shard[1] > 1 else self.seed


def _rgb(padding_color):
    """The color of the padding as three floats, ImageNet's mean for None."""
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
