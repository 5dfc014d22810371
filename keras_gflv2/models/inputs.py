"""What users hand to fit, evaluate and predict in; images and targets, or a clear error, out."""

import keras
import numpy as np

BOX_FORMATS = (
    "xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw", "rel_xyxy", "rel_yxyx", "rel_xywh",
    "rel_center_xywh",
)  # fmt: skip
# Relative boxes may stick out of the image a little; pixels are far beyond.
RELATIVE_LIMIT = 2.0


def check_box_format(bounding_box_format):
    """Raises ValueError for a format that KerasCV and Keras do not know."""
    if str(bounding_box_format).lower() not in BOX_FORMATS:
        raise ValueError(
            f"`bounding_box_format` must be one of {', '.join(BOX_FORMATS)}; "
            f"got {bounding_box_format!r}."
        )


def unpack(data, need_targets=False):
    """Splits one batch into images and targets.

    Args:
        data: a dictionary with "images" and "bounding_boxes", a pair (images, bounding_boxes), or
            what Keras makes of them; for prediction also images alone.
        need_targets: whether a batch without boxes is an error.

    Returns:
        Tuple of: images (B, H, W, 3); and a dictionary of "boxes", "classes" and, where given,
        "ignored" and "image_sizes".

    Raises:
        ValueError: a key is missing or unknown, or weights were given.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if sample_weight is not None:
        raise ValueError(
            "GFLV2 takes no `sample_weight` or `class_weight`: the losses weight every location "
            'by its predicted quality. To leave boxes out, set "ignored" for them.'
        )
    batch = dict(x) if isinstance(x, dict) else {"images": x}
    if "images" not in batch:
        raise ValueError(
            f'A batch must be a dictionary with "images" and "bounding_boxes"; got the keys '
            f"{sorted(batch)}."
        )
    given = y if y is not None else batch.get("bounding_boxes")
    targets = {}
    if given is not None:
        targets = _targets(given)
    elif need_targets:
        raise ValueError(
            'Training needs boxes: pass dictionaries with "images" and "bounding_boxes", or '
            "pairs (images, bounding_boxes)."
        )
    if batch.get("image_sizes") is not None:
        targets["image_sizes"] = batch["image_sizes"]
    return batch["images"], targets


def _targets(bounding_boxes):
    if not isinstance(bounding_boxes, dict):
        raise ValueError(
            'Boxes must be a dictionary {"boxes": (B, N, 4), "classes": (B, N)}; got '
            f"{type(bounding_boxes).__name__}."
        )
    targets = dict(bounding_boxes)
    if isinstance(targets.get("bounding_boxes"), dict):  # the whole batch was passed as y
        targets = {**targets, **targets["bounding_boxes"]}
    if "classes" not in targets and "labels" in targets:
        targets["classes"] = targets["labels"]
    missing = {"boxes", "classes"} - set(targets)
    if missing:
        raise ValueError(
            f'Boxes must have the keys "boxes" and "classes" (or "labels"); {sorted(missing)} '
            f"missing, got {sorted(bounding_boxes)}."
        )
    for name, rank in (("boxes", 3), ("classes", 2)):
        shape = getattr(targets[name], "shape", np.shape(targets[name]))
        if len(shape) != rank:
            expected = "(B, N, 4)" if rank == 3 else "(B, N)"
            raise ValueError(f'"{name}" must have the shape {expected}; got {tuple(shape)}.')
    wanted = ("boxes", "classes", "ignored", "image_sizes")
    return {k: targets[k] for k in wanted if targets.get(k) is not None}


def check_first_batch(data, y, num_classes, bounding_box_format):
    """Looks at the values that a graph could not complain about: all of an array, else one batch.

    Returns:
        The number of images looked at, None of a generator.

    Raises:
        ValueError: as `check_targets` does, or the data is empty.
    """
    batch = _peek(data, y)
    if batch is None:
        return
    images, targets = unpack(batch, need_targets=True)
    check_targets(targets, num_classes, bounding_box_format, np.shape(images)[1:3])
    return len(images)


def amount(data, y, found, arguments):
    """How much `fit` trains on: (images a step, steps an epoch), None for what it cannot know.

    Args:
        data, y: as in `fit`.
        found: what `check_first_batch` returned.
        arguments: those of `fit`: "batch_size", "steps_per_epoch", "validation_split".
    """
    steps = arguments.get("steps_per_epoch")
    if y is not None or isinstance(data, dict):  # arrays: all images were found
        batch_size = arguments["batch_size"] or 32
        images = int(found * (1 - arguments.get("validation_split", 0.0)))
        return batch_size, steps or -(-images // batch_size)
    try:
        steps = steps or len(data)
    except TypeError:
        pass
    return found, steps


def _peek(data, y):
    if y is not None:
        return (data, y)
    if isinstance(data, dict):
        return data
    if isinstance(data, keras.utils.PyDataset):
        return data[0]
    if hasattr(data, "take") and hasattr(data, "element_spec"):  # tf.data, without importing it
        for batch in data.take(1).as_numpy_iterator():
            return batch
        raise ValueError("The dataset is empty: there is no batch to train on.")
    return None  # a generator: looking at it would consume it


def check_targets(targets, num_classes, bounding_box_format, image_shape):
    """Raises ValueError for values of boxes and classes that cannot be meant.

    Args:
        targets: "boxes" (B, N, 4) and "classes" (B, N).
        num_classes: ids are 0..num_classes - 1, or -1 for padding.
        bounding_box_format: the format that the boxes should be in.
        image_shape: height and width of the batch.
    """
    boxes = keras.ops.convert_to_numpy(targets["boxes"])
    classes = keras.ops.convert_to_numpy(targets["classes"])
    if boxes.shape[:2] != classes.shape:
        raise ValueError(
            f'"boxes" {boxes.shape} and "classes" {classes.shape} must agree in their first two '
            "dimensions."
        )
    wrong = classes[(classes < -1) | (classes >= num_classes) | (classes != np.round(classes))]
    if wrong.size:
        raise ValueError(
            f"Class ids must be 0..{num_classes - 1}, or -1 for padding; found {wrong.size} "
            f"others, e.g. {wrong[:5].tolist()}. The model has num_classes={num_classes}."
        )
    present = boxes[classes >= 0]
    if not np.all(np.isfinite(present)):
        count = int(np.sum(~np.isfinite(present).all(-1)))
        raise ValueError(f"{count} boxes have NaN or infinite coordinates.")
    if present.size:
        _check_format(present, bounding_box_format.lower(), image_shape)


def _check_format(boxes, bounding_box_format, image_shape):
    relative = bounding_box_format.startswith("rel_")
    if relative and np.abs(boxes).max() > RELATIVE_LIMIT:
        raise ValueError(
            f"bounding_box_format={bounding_box_format!r} means values in 0..1, but boxes reach "
            f"{np.abs(boxes).max():g}: they look like pixels. Pass the model the format that the "
            "boxes have."
        )
    if not relative and boxes.max() <= 1.0 and min(image_shape) > 1:
        raise ValueError(
            f"bounding_box_format={bounding_box_format!r} means pixels, but no coordinate is "
            f"above 1: the boxes look relative. Did you mean 'rel_{bounding_box_format}'?"
        )
    xyxy = keras.utils.bounding_boxes.convert_format(
        boxes, source=bounding_box_format, target="xyxy", height=image_shape[0],
        width=image_shape[1],
    )  # fmt: skip
    xyxy = keras.ops.convert_to_numpy(xyxy)
    empty = np.sum((xyxy[:, 2] <= xyxy[:, 0]) | (xyxy[:, 3] <= xyxy[:, 1]))
    if empty:
        raise ValueError(
            f"{empty} of {len(boxes)} boxes have no area when read as {bounding_box_format!r}: "
            "wrong format, or boxes to leave out (set their class to -1)."
        )
