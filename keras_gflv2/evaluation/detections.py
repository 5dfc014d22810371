"""Runs a detector over a dataset and puts truth and detections side by side.

In: a model with `predict_on_batch` and a dataset of padded batches (the KerasCV dictionary).
Out: one `EvaluatedImage` an image, everything in pixels of the *original* image, xyxy, without
padding. What scores (`coco.py`) needs to know nothing about batches, resizing or box formats.
"""

import collections
import dataclasses

import keras
import numpy as np

from keras_gflv2.batches import batches_of, to_xyxy
from keras_gflv2.canvases import CanvasQueue
from keras_gflv2.contract import DataContract, check_box_scale


@dataclasses.dataclass
class EvaluatedImage:
    """Truth and detections of one image, in pixels of the original image.

    Attributes:
        image_id: the dataset's id of the image, of any kind, or its position in the dataset.
        height: height of the original image in pixels.
        width: width of the original image in pixels.
        true_boxes: float array (n, 4), xyxy.
        true_classes: integer array (n,).
        true_ignored: boolean array (n,): crowd and difficult objects.
        true_areas: float array (n,), in square pixels.
        boxes: float array (m, 4), xyxy.
        classes: integer array (m,).
        scores: float array (m,).
        uncertainties: float array (m, 4) of the left, top, right and bottom side, in pixels of the
            original image; None where the detector does not tell them.
    """

    image_id: object
    height: float
    width: float
    true_boxes: np.ndarray
    true_classes: np.ndarray
    true_ignored: np.ndarray
    true_areas: np.ndarray
    boxes: np.ndarray | None = None
    classes: np.ndarray | None = None
    scores: np.ndarray | None = None
    uncertainties: np.ndarray | None = None

    def above(self, score_threshold):
        """The image with the detections of greater scores."""
        names = ("boxes", "classes", "scores", "uncertainties")
        found = {name: getattr(self, name) for name in names}
        kept = self.scores > score_threshold
        found = {name: value if value is None else value[kept] for name, value in found.items()}
        return dataclasses.replace(self, **found)


def detect_dataset(model, dataset, *, verbose="auto"):
    """Runs the detector over every image of a dataset, once.

    Args:
        model: a dense detector, or anything with `predict_on_batch`, `num_classes` and
            `bounding_box_format`.
        dataset: iterable of batches, see `evaluate_coco`.
        verbose: `"auto"` or 1 for a progress bar, 2 for one line, 0 for silence.

    Returns:
        List of `EvaluatedImage`, in the dataset's order.

    Raises:
        ValueError: the dataset is empty or never ends, repeats an image id, holds a class the model
            has not or a box that is none, or a batch is not a dictionary of images and boxes.
    """
    DataContract.of(model).check_class_names(getattr(dataset, "class_names", None))
    verbose = 1 if verbose == "auto" else verbose
    batches, num_batches = batches_of(dataset)
    progress = keras.utils.Progbar(num_batches, verbose=verbose, unit_name="batch")
    queue = CanvasQueue(model, plan=getattr(model, "canvas_plan", None))
    images, scales = [], []
    for step, batch in enumerate(batches):
        for image, scale in _true_images(model, dataset, batch, first_position=len(images)):
            images.append(image)
            scales.append(scale)
        queue.add_batch(batch["images"], batch.get("image_sizes"))
        progress.update(step + 1, finalize=False)
    if not images:
        raise ValueError(
            "`dataset` is empty: there is no image to evaluate. Check its path and split (and, for "
            "a generator, that it can be iterated more than once)."
        )
    for image, scale, found in zip(images, scales, queue.finish(), strict=True):
        image.boxes = found["boxes"] * scale  # (m, 4)
        image.classes = found["classes"].astype("int64")
        image.scores = found["confidence"]
        if "uncertainties" in found:
            image.uncertainties = found["uncertainties"] * scale
    progress.update(step + 1, finalize=True)
    ids = source_image_ids(dataset, [image.image_id for image in images])
    _check_image_ids(ids)
    for image, image_id in zip(images, ids, strict=True):
        image.image_id = image_id
    return images


def category_ids_of(model, dataset=None):
    """COCO category id of each class: the dataset's as they are, else class index + 1."""
    category_ids = getattr(dataset, "category_ids", None)
    if category_ids is None or len(category_ids) == 0:
        return list(range(1, model.num_classes + 1))
    return [_plain(category_id) for category_id in category_ids]


def source_image_ids(dataset, carried):
    """Ids of the images as their source has them, in the order in which the images came.

    A tensor holds whole numbers: where a source has ids of other kinds, as many COCO files have,
    the batches carry positions in `dataset.image_ids` instead.

    Args:
        dataset: its attribute `image_ids`, if there is one, has the ids in the source's order.
        carried: list of what the batches carry for each image, None where they carry nothing.
    """
    ids = getattr(dataset, "image_ids", None)
    ids = None if ids is None else [_plain(image_id) for image_id in ids]
    if carried and None not in carried:
        if ids is None:
            return carried
        # What the batches carry of each image: its id where that is a number, else its position.
        numbers = [i if isinstance(i, int) else k for k, i in enumerate(ids)]
        if carried == numbers:
            return ids
        if set(map(_key, carried)) <= set(map(_key, ids)):
            return carried
        by_number = dict(enumerate(ids))
        if not set(carried) <= set(by_number):
            by_number = dict(zip(numbers, ids))
        return [by_number.get(number, number) for number in carried]
    if ids is not None and len(ids) == len(carried):
        return ids
    return [k if image_id is None else image_id for k, image_id in enumerate(carried)]


def _key(image_id):
    """What tells ids apart: 1, 1.0 and "1" are three."""
    return type(image_id), image_id


def _true_images(model, dataset, batch, first_position):
    """Pairs of an `EvaluatedImage` with its truth alone, and its factors (4,) of the resizing."""
    size, height, width = batch["images"].shape[:3]
    classes = batch["classes"]
    true_format = getattr(dataset, "bounding_box_format", None) or model.bounding_box_format
    present = batch["boxes"][classes >= 0]
    if present.size:
        check_box_scale(present, true_format.lower(), (height, width))
    true_boxes = to_xyxy(batch["boxes"], true_format, height, width)  # (B, N, 4)
    image_sizes = batch.get("image_sizes", np.full((size, 2), [height, width]))
    original_sizes = batch.get("original_sizes", image_sizes)
    image_ids = batch.get("image_ids", [None] * size)
    ignored = batch.get("ignored", np.zeros_like(classes))
    for index in range(size):
        image_id = _plain(image_ids[index])
        what = f"Image {first_position + index} of the dataset"
        what += "" if image_id is None else f" (id {image_id!r})"
        _check_truth(what, true_boxes[index], classes[index], model.num_classes)
        if not ((image_sizes[index] >= 1) & (image_sizes[index] <= [height, width])).all():
            raise ValueError(
                f"{what} has the image size {image_sizes[index].tolist()} in a batch of "
                f'{height} x {width} pixels. "image_sizes" must be height and width inside it.'
            )
        scale_y, scale_x = original_sizes[index] / image_sizes[index]
        scale = np.array([scale_x, scale_y, scale_x, scale_y], "float32")
        real = classes[index] >= 0
        image_boxes = true_boxes[index][real] * scale  # (n, 4)
        areas = batch["areas"][index][real] if "areas" in batch else _areas(image_boxes)
        image = EvaluatedImage(
            image_id=image_id,
            height=float(original_sizes[index][0]),
            width=float(original_sizes[index][1]),
            true_boxes=image_boxes,
            true_classes=classes[index][real].astype("int64"),
            true_ignored=ignored[index][real].astype("bool"),
            true_areas=areas,
        )
        yield image, scale


def _check_truth(what, boxes, classes, num_classes):
    """Raises a ValueError that names the image whose objects cannot be what they say."""
    wrong = classes[~(np.isin(classes, np.arange(-1, num_classes)))]
    if wrong.size:
        raise ValueError(
            f"{what} has an object of class {wrong[0]:g}. The model has {num_classes} classes: ids "
            f"are 0..{num_classes - 1}, and -1 for padding."
        )
    boxes = boxes[classes >= 0]
    wrong = boxes[~(boxes[:, 2:] >= boxes[:, :2]).all(-1) | ~np.isfinite(boxes).all(-1)]
    if len(wrong):
        raise ValueError(
            f"{what} has {len(wrong)} boxes that are not finite or end before they begin, e.g. "
            f"{wrong[0].tolist()} as xyxy. Is `bounding_box_format` that of the dataset? Leave "
            "boxes out by the class -1."
        )


def _areas(boxes):
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _plain(image_id):
    """A numpy number, string or bytes as int, float or str."""
    image_id = image_id.item() if hasattr(image_id, "item") else image_id
    return image_id.decode() if isinstance(image_id, bytes) else image_id


def _check_image_ids(image_ids):
    keys = [_key(image_id) for image_id in image_ids]
    if len(set(keys)) < len(keys):
        repeated = next(key for key, count in collections.Counter(keys).items() if count > 1)
        raise ValueError(
            f"`dataset` yields the image id {repeated[1]!r} more than once. Evaluate on a dataset "
            "that passes over each image once (`train=False`, no `repeat()`)."
        )
