"""Batches as other libraries make them: lists of what belongs to each image, and TFDS's keys.

In: what a user's dataset yields. Out: a dictionary or a pair with arrays, for `contract.unpack`.
"""

import keras
import numpy as np

# TFDS has boxes as fractions, y before x.
TFDS_FORMAT = "rel_yxyx"
IGNORED = ("is_crowd", "is_difficult")


def with_arrays(batch):
    """A batch in which lists of one array an image are arrays, as KerasCV and PyTorch have them.

    Boxes are filled up to the largest number in the batch with class -1.

    Args:
        batch: a dictionary, or a tuple (images, boxes).
    """
    if isinstance(batch, tuple):
        return (*map(_images_of, batch[:1]), *map(_targets_of, batch[1:]))
    if isinstance(batch, dict):
        made = {"images": _images_of, "bounding_boxes": _targets_of, "image_sizes": _sizes_of}
        return {key: made[key](value) if key in made else value for key, value in batch.items()}
    return batch


def _images_of(images):
    if isinstance(images, dict):
        return with_arrays(images)
    if not isinstance(images, (list, tuple)) or not images:
        return images
    arrays = [_to_numpy(image) for image in images]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ValueError(
            f"The images of a batch must have one size; got {shapes[:4]}. Resize them, or pad them "
            'and pass their own sizes as "image_sizes" (B, 2).'
        )
    return np.stack(arrays)


def _targets_of(targets):
    if isinstance(targets, (list, tuple)) and targets and isinstance(targets[0], dict):
        keys = [key for key in targets[0] if all(key in of_image for of_image in targets)]
        targets = {key: [of_image[key] for of_image in targets] for key in keys}
    if not isinstance(targets, dict):
        return targets
    return {key: _filled(key, value) for key, value in targets.items()}


def _sizes_of(sizes):
    return np.stack(list(map(_to_numpy, sizes))) if isinstance(sizes, (list, tuple)) else sizes


def _filled(key, rows):
    """An array (B, N, ...) of a list of arrays (n, ...); anything else as it is."""
    is_object_array = isinstance(rows, np.ndarray) and rows.dtype == object
    if not (isinstance(rows, (list, tuple)) or is_object_array) or not len(rows):
        return rows
    arrays = [_to_numpy(row) for row in rows]
    if key == "boxes":
        arrays = [array.reshape(-1, 4) for array in arrays]
    if any(array.ndim == 0 for array in arrays):  # one number an image, such as its id
        return rows
    most = max(len(array) for array in arrays)
    fill = -1 if key in ("classes", "labels") else 0
    filled = np.full((len(arrays), most, *arrays[0].shape[1:]), fill, arrays[0].dtype)
    for row, array in zip(filled, arrays):
        row[: len(array)] = array
    return filled


def _to_numpy(value):
    if hasattr(value, "detach"):  # PyTorch's, on any backend
        value = value.detach().cpu()
    return np.asarray(value)


def is_tfds(batch):
    """Whether a batch has the keys of a detection dataset of tensorflow-datasets."""
    return isinstance(batch, dict) and "image" in batch and isinstance(batch.get("objects"), dict)


def from_tfds(batch, bounding_box_format):
    """A batch of TFDS as a dictionary of "images" and "bounding_boxes".

    Boxes without area are padding, which `padded_batch` fills with zeros.

    Args:
        batch: dictionary with "image" (B, H, W, 3) and "objects", of "bbox" (B, N, 4), fractions of
            the whole image, and "label" (B, N); dense or ragged.
        bounding_box_format: that of the result.
    """
    objects = {
        key: value.to_tensor() if hasattr(value, "to_tensor") else value
        for key, value in _targets_of(batch["objects"]).items()
    }
    missing = {"bbox", "label"} - set(objects)
    if missing:
        raise ValueError(
            f'"objects" of a TFDS batch must have "bbox" and "label"; {sorted(missing)} missing, '
            f"got {sorted(objects)}. `keras_gflv2.data.load_tfds` knows other names."
        )
    images = batch["image"]
    if len(images.shape) != 4:
        raise ValueError(
            f"`image` must be a batch (B, H, W, 3) of RGB; got the shape {tuple(images.shape)}. "
            "Resize the images and put them into batches, dataset.ragged_batch(8) for boxes of "
            "different numbers; or use `keras_gflv2.data.load_tfds`, which does."
        )
    if _is_symbolic(images):
        import tensorflow as tf

        size, where, cast = tf.unstack(tf.shape(images)[1:3]), tf.where, tf.cast
    else:
        images, objects = _to_numpy(images), {k: _to_numpy(v) for k, v in objects.items()}
        size, where = images.shape[1:3], np.where
        cast = lambda value, dtype: np.asarray(value).astype(dtype)  # noqa: E731
    boxes = cast(objects["bbox"], "float32")
    height, width = (cast(side, "float32") for side in size)
    is_object = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    ignored = [cast(objects[key], "int32") for key in IGNORED if key in objects]
    converted = keras.utils.bounding_boxes.convert_format(
        boxes, TFDS_FORMAT, bounding_box_format.lower(), height, width, dtype="float32"
    )
    targets = {
        "boxes": converted,
        "classes": where(is_object, cast(objects["label"], "int32"), -1),
    }
    if ignored:
        targets["ignored"] = sum(ignored)
    return {"images": images, "bounding_boxes": targets}


def _is_symbolic(tensor):
    """Whether it is a tensor of a graph of tf.data."""
    return hasattr(tensor, "graph") and not hasattr(tensor, "numpy")
