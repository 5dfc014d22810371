"""Datasets of any kind as batches of numpy arrays, for what looks at images and truth in Python.

In: anything that `fit` takes. Out: dictionaries of dense arrays, one per batch.
"""

import itertools

import keras
import numpy as np

from keras_gflv2 import boxes as box_ops
from keras_gflv2.contract import dense, unpack
from keras_gflv2.replicas import compiles_each_shape

ARRAYS_BATCH_SIZE = 8  # images of arrays that run together


def batches_of(dataset):
    """The batches of anything that `fit` takes, unpacked, and how many there are (None: unknown).

    Args:
        dataset: `tf.data.Dataset`, `PyDataset`, `DataLoader`, generator or list of batches; or one
            dictionary, or pair, of arrays of all images.
    """
    if isinstance(dataset, dict) or _is_pair_of_arrays(dataset):
        arrays = unpack_batch(dataset)
        starts = range(0, len(arrays["images"]), ARRAYS_BATCH_SIZE)
        slices = [slice(start, start + ARRAYS_BATCH_SIZE) for start in starts]
        return ({k: v[rows] for k, v in arrays.items()} for rows in slices), len(slices)
    if isinstance(dataset, keras.utils.PyDataset):
        # It can be indexed beyond its end, where iterating would not stop.
        num_batches = float("inf") if dataset.num_batches is None else dataset.num_batches
        batches = map(dataset.__getitem__, itertools.count())
        batches = itertools.islice(batches, dataset.num_batches)
    else:
        num_batches, batches = _num_batches(dataset), dataset
    if num_batches == float("inf"):
        raise ValueError("`dataset` never ends: leave out `repeat()` for an evaluation.")
    return (unpack_batch(batch) for batch in batches), num_batches


def _is_pair_of_arrays(dataset):
    """Whether a tuple is (images, bounding_boxes), not two batches."""
    if not isinstance(dataset, tuple) or len(dataset) != 2 or not isinstance(dataset[1], dict):
        return False
    return "boxes" in dataset[1] and not isinstance(dataset[0], dict)


def _num_batches(dataset):
    """Number of batches: infinite for `repeat()`, None where the dataset cannot tell."""
    if hasattr(dataset, "cardinality") and int(dataset.cardinality()) == -1:  # tf.data's infinite
        return float("inf")
    try:
        return len(dataset)
    except TypeError:
        return None


def unpack_batch(batch):
    """Brings one batch of a dataset into dense numpy arrays.

    Args:
        batch: dictionary with "images" and "bounding_boxes" (itself a dictionary with "boxes"
            and "classes" or "labels"), or the pair (images, bounding_boxes). Tensors of any
            backend; ragged TensorFlow ones become dense.

    Returns:
        Dictionary of numpy arrays: "images" (B, H, W, 3), "boxes" (B, N, 4), "classes" (B, N) with
        -1 for padding, and those of "ignored", "areas" (B, N), "image_sizes", "original_sizes"
        (B, 2), "image_ids" (B,) which the batch has.
    """
    images, targets = unpack(batch, need_targets=True)
    given = {**batch, **batch["bounding_boxes"]} if isinstance(batch, dict) else dict(batch[1])
    others = {key: given[key] for key in ("areas", "original_sizes", "image_ids") if key in given}
    return {k: _to_numpy(v) for k, v in {"images": images, **dense(targets), **others}.items()}


def _to_numpy(tensor, padding=0):
    if hasattr(tensor, "to_tensor"):  # a TensorFlow ragged tensor
        tensor = tensor.to_tensor(padding)
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def to_xyxy(boxes, bounding_box_format, height, width):
    """Boxes (..., 4) of any format as float32 xyxy in pixels of a (height, width) canvas."""
    boxes = np.asarray(boxes, "float32")
    if boxes.size == 0 or bounding_box_format.lower() == "xyxy":
        return boxes
    boxes = box_ops.convert(boxes, bounding_box_format, "xyxy", height, width)
    return keras.ops.convert_to_numpy(boxes)


def in_few_lengths(model, predict, inputs, batch_size):
    """`predict(inputs)`, without a new length for each rest where each shape is compiled.

    There a batch of less than `batch_size` images runs image by image, so that a size has two
    shapes to compile, of `batch_size` images and of one, whatever the number of images.

    Args:
        model: what `predict` runs.
        predict: function of a dictionary of arrays that returns one.
        inputs: dictionary of arrays of B rows, at most `batch_size`.
        batch_size: images of the batches of which this may be the rest.
    """
    size = len(inputs["images"])
    if size in (1, batch_size) or not compiles_each_shape(model):
        return predict(inputs)
    rows = [predict({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(size)]
    return {
        key: np.concatenate([keras.ops.convert_to_numpy(row[key]) for row in rows])
        for key in rows[0]
    }
