"""Runs a detector over a dataset and puts truth and detections side by side.

In: a model with `predict_on_batch` and a dataset of padded batches (the KerasCV dictionary).
Out: one `EvaluatedImage` an image, everything in pixels of the *original* image, xyxy, without
padding. What scores (`coco.py`) needs to know nothing about batches, resizing or box formats.
"""

import dataclasses

import keras
import numpy as np

from keras_gflv2.contract import DataContract, dense, unpack


@dataclasses.dataclass
class EvaluatedImage:
    """Truth and detections of one image, in pixels of the original image.

    Attributes:
        image_id: the dataset's id of the image, or its position in the dataset.
        height: height of the original image in pixels.
        width: width of the original image in pixels.
        true_boxes: float array (n, 4), xyxy.
        true_classes: integer array (n,).
        true_ignored: boolean array (n,): crowd and difficult objects.
        true_areas: float array (n,), in square pixels.
        boxes: float array (m, 4), xyxy.
        classes: integer array (m,).
        scores: float array (m,).
    """

    image_id: int | str
    height: float
    width: float
    true_boxes: np.ndarray
    true_classes: np.ndarray
    true_ignored: np.ndarray
    true_areas: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


def detect_dataset(model, dataset, *, verbose="auto"):
    """Runs the detector over every image of a dataset, once.

    Args:
        model: a `GFLV2`, or anything with `predict_on_batch`, `num_classes` and
            `bounding_box_format`.
        dataset: iterable of batches, see `evaluate_coco`.
        verbose: `"auto"` or 1 for a progress bar, 2 for one line, 0 for silence.

    Returns:
        List of `EvaluatedImage`, in the dataset's order.

    Raises:
        ValueError: the dataset is empty, repeats an image id, holds a class the model has not, or
            a batch is not a dictionary of images and bounding boxes.
    """
    DataContract.of(model).check_class_names(getattr(dataset, "class_names", None))
    verbose = 1 if verbose == "auto" else verbose
    progress = keras.utils.Progbar(_num_batches(dataset), verbose=verbose, unit_name="batch")
    images = []
    full_batch_size = 0
    for step, batch in enumerate(dataset):
        batch = unpack_batch(batch)
        full_batch_size = max(full_batch_size, len(batch["images"]))
        predictions = _predict(model, batch, full_batch_size)
        images += _images_of_batch(model, dataset, batch, predictions, first_index=len(images))
        progress.update(step + 1, finalize=False)
    if not images:
        raise ValueError(
            "`dataset` is empty: there is no image to evaluate. Check its path and split (and, for "
            "a generator, that it can be iterated more than once)."
        )
    progress.update(step + 1, finalize=True)
    _check_image_ids(images)
    return images


def class_names_of(model, dataset=None):
    """Names of the classes: the dataset's, else the model's, else "0", "1", ..."""
    for source in (dataset, model):
        names = getattr(source, "class_names", None)
        if names:
            return [str(name) for name in names]
    return [str(index) for index in range(model.num_classes)]


def category_ids_of(model, dataset=None):
    """COCO category id of each class: the dataset's, else class index + 1."""
    category_ids = getattr(dataset, "category_ids", None)
    if category_ids is None or len(category_ids) == 0:
        return list(range(1, model.num_classes + 1))
    return [int(category_id) for category_id in category_ids]


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


def to_xyxy(boxes, bounding_box_format, height, width):
    """Boxes (..., 4) of any format as float32 xyxy in pixels of a (height, width) canvas."""
    boxes = np.asarray(boxes, "float32")
    if boxes.size == 0 or bounding_box_format == "xyxy":
        return boxes
    boxes = keras.utils.bounding_boxes.convert_format(
        boxes, source=bounding_box_format, target="xyxy", height=height, width=width
    )
    return keras.ops.convert_to_numpy(boxes)


def _to_numpy(tensor, padding=0):
    if hasattr(tensor, "to_tensor"):  # a TensorFlow ragged tensor
        tensor = tensor.to_tensor(padding)
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _predict(model, batch, full_batch_size):
    """Predictions (numpy) of one batch; a short last batch is filled up, to compile nothing new."""
    inputs = {key: batch[key] for key in ("images", "image_sizes") if key in batch}
    size = len(inputs["images"])
    fill = np.minimum(np.arange(full_batch_size), size - 1)
    inputs = {key: value[fill] for key, value in inputs.items()}
    predictions = model.predict_on_batch(inputs)
    return {key: _to_numpy(predictions[key])[:size] for key in ("boxes", "classes", "confidence")}


def _images_of_batch(model, dataset, batch, predictions, first_index):
    """The list of `EvaluatedImage` of one batch."""
    size, height, width = batch["images"].shape[:3]
    classes = batch["classes"]
    if classes.size and classes.max() >= model.num_classes:
        raise ValueError(
            f"The dataset holds an object of class {int(classes.max())}, the model has "
            f"{model.num_classes} classes: 0 to {model.num_classes - 1}."
        )
    true_format = getattr(dataset, "bounding_box_format", None) or model.bounding_box_format
    true_boxes = to_xyxy(batch["boxes"], true_format, height, width)  # (B, N, 4)
    boxes = to_xyxy(predictions["boxes"], model.bounding_box_format, height, width)  # (B, D, 4)
    image_sizes = batch.get("image_sizes", np.full((size, 2), [height, width]))
    original_sizes = batch.get("original_sizes", image_sizes)
    image_ids = batch.get("image_ids", np.arange(first_index, first_index + size))
    ignored = batch.get("ignored", np.zeros_like(classes))

    images = []
    for index in range(size):
        scale_y, scale_x = original_sizes[index] / np.maximum(image_sizes[index], 1)
        scale = np.array([scale_x, scale_y, scale_x, scale_y], "float32")
        real = classes[index] >= 0
        detected = predictions["classes"][index] >= 0
        image_boxes = true_boxes[index][real] * scale  # (n, 4)
        areas = batch["areas"][index][real] if "areas" in batch else _areas(image_boxes)
        images.append(
            EvaluatedImage(
                image_id=_plain(image_ids[index]),
                height=float(original_sizes[index][0]),
                width=float(original_sizes[index][1]),
                true_boxes=image_boxes,
                true_classes=classes[index][real].astype("int64"),
                true_ignored=ignored[index][real].astype("bool"),
                true_areas=areas,
                boxes=boxes[index][detected] * scale,  # (m, 4)
                classes=predictions["classes"][index][detected].astype("int64"),
                scores=predictions["confidence"][index][detected],
            )
        )
    return images


def _areas(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _plain(image_id):
    """A numpy integer, string or bytes as int or str."""
    image_id = image_id.item() if hasattr(image_id, "item") else image_id
    return image_id.decode() if isinstance(image_id, bytes) else image_id


def _num_batches(dataset):
    """Number of batches for the progress bar, None where the dataset cannot tell."""
    try:
        return len(dataset)
    except TypeError:
        return None


def _check_image_ids(images):
    image_ids = [image.image_id for image in images]
    if len(set(image_ids)) < len(image_ids):
        repeated = next(i for i in image_ids if image_ids.count(i) > 1)
        raise ValueError(
            f"`dataset` yields the image id {repeated!r} more than once. Evaluate on a dataset "
            "that passes over each image once (`train=False`, no `repeat()`)."
        )
