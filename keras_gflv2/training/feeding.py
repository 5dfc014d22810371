"""Data sources in, the same sources with every batch checked and in one form out.

`fit`, `evaluate` and `predict` send what they get through `checked`: arrays, `tf.data`,
`keras.utils.PyDataset`, PyTorch's DataLoader and generators. Nothing is drawn beforehand: a batch
is looked at when training draws it.
"""

import contextlib
import copy
import warnings

import keras
import numpy as np

from keras_gflv2.batch_forms import from_tfds, is_tfds
from keras_gflv2.contract import check_pixels, dense, unpack, warn_of_pixels
from keras_gflv2.images import PIXEL_SAMPLES
from keras_gflv2.training.sources import KERAS_BATCH_SIZE, is_data_loader, is_tf_dataset

SHAPES = {
    "boxes": (None, None, 4),
    "classes": (None, None),
    "ignored": (None, None),
    "image_sizes": (None, 2),
}


class Feeding:
    """One data source on its way into `fit`, `evaluate` or `predict`.

    Args:
        contract: the `DataContract` that every batch must keep.
        need_targets: whether batches without boxes are an error; in prediction boxes are left out.
        divisor: (count, exact): on several devices, of how many images a batch must be a multiple
            (exact), or have at least.

    Attributes:
        error: what a check raised, which tf.data wraps into an error of its own.
        num_objects: boxes seen so far.
        num_dropped: images seen so far that were too few for the devices.
    """

    def __init__(self, contract, need_targets=True, divisor=(1, False)):
        self.contract = contract
        self.need_targets = need_targets
        self.devices, self.exact = divisor
        self.error = None
        self.num_objects = self.num_dropped = self.num_batches = 0

    # === Sources ===

    def checked(self, x, y=None, batch_size=None):
        """The same source, checked: (x, y) for Keras.

        Raises:
            ValueError: arrays, or what a dataset says of itself, break the contract. Later batches
                raise it when they are drawn.
        """
        _check_source(x)
        if self.need_targets:
            self.contract.check_dataset(x)
        if is_tf_dataset(x):
            return self._tf_dataset(x), y
        if isinstance(x, keras.utils.PyDataset):
            return _CheckedPyDataset(x, self._python_batch), y
        if is_data_loader(x):
            return self._data_loader(x), y
        if hasattr(x, "__next__"):
            return (self._python_batch(batch) for batch in x), y
        if y is not None or isinstance(x, dict) or hasattr(x, "__array__"):
            return self._arrays(x, y, batch_size)
        return x, y  # what Keras has made of a dataset, such as one spread over devices

    def _arrays(self, x, y, batch_size):
        images, targets = self._unpack((x, y))
        images = _as_array(images)
        targets = {key: _as_array(value) for key, value in targets.items()}
        self._check(images, targets)
        keep = self._full_images(len(images), batch_size or KERAS_BATCH_SIZE)
        if keep < len(images):
            self.num_dropped += len(images) - keep
            images, targets = images[:keep], {k: v[:keep] for k, v in targets.items()}
        return (images, targets) if self.need_targets else (_inputs(images, targets), None)

    def _full_images(self, count, batch_size):
        """How many of `count` images are in batches that the devices can share."""
        last = count % batch_size
        return count if self._is_shared(last) or not last else count - last

    def _is_shared(self, images):
        return images % self.devices == 0 if self.exact else images >= self.devices

    def _tf_dataset(self, dataset):
        import tensorflow as tf

        plain = tf.autograph.experimental.do_not_convert
        checked = dataset.map(plain(lambda *element: self._tf_batch(tf, element)))
        size = keras.tree.flatten(checked.element_spec)[0].shape[0]
        if self.devices > 1 and not (size and self._is_shared(size)):
            checked = checked.filter(plain(lambda *batch: self._tf_is_shared(tf, batch)))
        if hasattr(dataset, "shard_position"):
            checked.shard_position = dataset.shard_position
        return checked

    def _tf_batch(self, tf, element):
        """A batch of a `tf.data.Dataset` in one form, looked at by Python when it is drawn."""
        images, targets = self._unpack(element if len(element) > 1 else element[0])
        # Generators need not say their shapes; layers want to know at least the rank.
        images = tf.ensure_shape(images, (None, None, None, 3))
        targets = {key: tf.ensure_shape(value, SHAPES[key]) for key, value in targets.items()}
        pixels = []
        if images.dtype != tf.uint8:
            shape = tf.shape(images)
            step = [tf.maximum(shape[axis] // PIXEL_SAMPLES, 1) for axis in (1, 2)]
            sample = tf.cast(images[:, :: step[0], :: step[1]], "float32")
            axes = [1, 2, 3]
            fractions = tf.reduce_any((sample > 0) & (sample < 1), axis=axes)
            pixels = [
                tf.reduce_min(sample, axis=axes),
                tf.reduce_max(sample, axis=axes),
                fractions,
            ]

        def look(shape, *values):
            arrays = dict(zip(targets, values[len(pixels) :]))
            self._guard(self._check_values, shape[1:3], values[: len(pixels)], arrays)
            return np.bool_(True)

        seen = tf.numpy_function(look, [tf.shape(images), *pixels, *targets.values()], tf.bool)
        with tf.control_dependencies([seen]):
            images = tf.identity(images)
        return (images, targets) if self.need_targets else _inputs(images, targets)

    def _tf_is_shared(self, tf, batch):
        def look(size):
            is_shared = self._is_shared(size)
            self.num_dropped += 0 if is_shared else int(size)
            return np.bool_(is_shared)

        size = tf.shape(keras.tree.flatten(batch)[0])[0]
        return tf.ensure_shape(tf.numpy_function(look, [size], tf.bool), ())

    def _data_loader(self, loader):
        checked = copy.copy(loader)
        checked._iterator = None  # of workers that are running already
        checked.collate_fn = _CheckedCollate(loader.collate_fn, self)
        return checked

    def _python_batch(self, batch):
        """A batch of a generator or a `PyDataset`, checked, as a pair of arrays."""
        images, targets = self._unpack(batch)
        images = _as_array(images)
        targets = {key: _as_array(value) for key, value in targets.items()}
        self._guard(self._check, images, targets)
        if not self._is_shared(len(images)):
            raise ValueError(
                f"{self.devices} devices cannot share a batch of {len(images)} images. Leave out a "
                "smaller last batch (`drop_remainder` of tf.data, `drop_last` of a DataLoader)."
            )
        return (images, targets) if self.need_targets else (_inputs(images, targets),)

    # === Checks ===

    def _unpack(self, batch):
        if is_tfds(batch):
            batch = from_tfds(batch, self.contract.bounding_box_format)
        images, targets = unpack(batch, self.need_targets)
        if not self.need_targets:
            targets = {key: targets[key] for key in ("image_sizes",) if key in targets}
        return images, dense(targets)

    def _check(self, images, targets):
        check_pixels(images)
        self._check_values(np.shape(images)[1:3], (), targets)

    def _check_values(self, image_shape, pixels, targets):
        if pixels:
            warn_of_pixels(*pixels)
        self.num_batches += 1
        if "boxes" in targets:
            self.contract.check_targets(targets, image_shape)
            is_object = targets["classes"] >= 0
            if "ignored" in targets:
                is_object = is_object & (targets["ignored"] == 0)
            self.num_objects += int(np.sum(is_object))

    def _guard(self, check, *arguments):
        try:
            check(*arguments)
        except ValueError as error:
            self.error = error
            raise

    # === What is told ===

    def tell(self):
        """Warns of what is no error in a batch: no object at all, images left out."""
        if self.need_targets and self.num_batches and not self.num_objects:
            warnings.warn(
                f"None of {self.num_batches} batches had an object: every class is -1 or ignored. "
                "The detector only learns that there is nothing.",
                stacklevel=2,
            )
        if self.num_dropped:
            warnings.warn(
                f"{self.num_dropped} images were left out: {self.devices} devices cannot share a "
                "last batch that is smaller. Choose a batch size that divides the number of images "
                "to use all.",
                stacklevel=2,
            )
        self.num_objects = self.num_dropped = self.num_batches = 0


@contextlib.contextmanager
def own_errors(*feedings):
    """Within it, what a check raised comes out as it was, not as what tf.data made of it."""
    try:
        yield
    except Exception as error:
        for feeding in feedings:
            if feeding.error is not None and feeding.error is not error:
                raise feeding.error from error
        raise


class _CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches go through a function."""

    def __init__(self, dataset, function):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._function = dataset, function

    def __getitem__(self, index):
        return self._function(self._dataset[index])

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()


class _CheckedCollate:
    """What makes a DataLoader's batches: Keras makes a tuple of the keys of a dictionary."""

    def __init__(self, collate, feeding):
        self._collate, self._feeding = collate, feeding

    def __call__(self, samples):
        import torch

        batch = self._feeding._python_batch(self._batch_of(samples))
        return keras.tree.map_structure(torch.as_tensor, batch)

    def _batch_of(self, samples):
        """A batch of samples, as lists where PyTorch's function would stack equal shapes only."""
        import torch

        is_own = self._collate is not torch.utils.data.default_collate
        if is_own or not isinstance(samples[0], (dict, list, tuple)):
            return self._collate(samples)
        if isinstance(samples[0], dict):
            return {key: [sample[key] for sample in samples] for key in samples[0]}
        return tuple(list(column) for column in zip(*samples))


def _check_source(x):
    """Raises ValueError for what is no data at all."""
    if x is None:
        raise ValueError("There is no data: pass a dataset, a generator or arrays.")
    if isinstance(x, (list, tuple)) and x and isinstance(x[0], dict):
        raise ValueError(
            "A list of batches is no source of data: pass a generator, `(batch for batch in "
            "batches)`, or a `keras.utils.PyDataset`, which can be drawn from again."
        )


def _as_array(value):
    if hasattr(value, "detach"):  # PyTorch's, on any backend
        return value.detach().cpu().numpy()
    return value if isinstance(value, np.ndarray) else keras.ops.convert_to_numpy(value)


def _inputs(images, targets):
    """What `predict` takes: images, with their sizes where they are given."""
    return {"images": images, **targets} if targets else images
