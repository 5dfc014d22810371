"""What a batch must be: the agreement between data and detector, in one place.

`fit`, `evaluate`, `predict`, validation data, evaluation and the loaders all come here. In: what
users hand in. Out: images and targets in one form, or an error that says what to change.
"""

import dataclasses
import warnings

import keras
import numpy as np

from keras_gflv2.batch_forms import is_tfds, with_arrays
from keras_gflv2.images import pixel_problem, pixel_statistics

BOX_FORMATS = (
    "xyxy", "yxyx", "xywh", "center_xywh", "center_yxhw", "rel_xyxy", "rel_yxyx", "rel_xywh",
    "rel_center_xywh",
)  # fmt: skip
TARGET_KEYS = ("boxes", "classes", "ignored", "image_sizes")
# Relative boxes may stick out of the image a little; pixels are far beyond.
RELATIVE_LIMIT = 2.0


def check_box_format(bounding_box_format):
    """Raises ValueError for a format that KerasCV and Keras do not know."""
    if str(bounding_box_format).lower() not in BOX_FORMATS:
        raise ValueError(
            f"`bounding_box_format` must be one of {', '.join(BOX_FORMATS)}; "
            f"got {bounding_box_format!r}."
        )


def class_names_of(model, dataset=None):
    """Names of the classes: the dataset's, else the model's, else "0", "1", ..."""
    for source in (dataset, model):
        names = getattr(source, "class_names", None)
        if names:
            return [str(name) for name in names]
    return [str(index) for index in range(model.num_classes)]


# === The form of a batch ===


def unpack(data, need_targets=False):
    """Splits one batch into images and targets.

    Args:
        data: a dictionary with "images" and "bounding_boxes", a pair (images, bounding_boxes), or
            what Keras makes of them; for prediction also images alone.
        need_targets: whether a batch without boxes is an error.

    Returns:
        Tuple of: images (B, H, W, 3); and a dictionary of "boxes", "classes" and, where given,
        "ignored", "image_sizes" and "canvas_sizes".

    Raises:
        ValueError: a key is missing or unknown, or weights were given.
    """
    if isinstance(data, list):  # a DataLoader makes lists of pairs
        data = tuple(data)
    data = with_arrays(data)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if sample_weight is not None:
        raise ValueError(
            "Detectors take no `sample_weight` or `class_weight`: the criterion weights every "
            'location. To leave boxes out, set "ignored" for them.'
        )
    batch = dict(x) if isinstance(x, dict) else {"images": x}
    if is_tfds(batch):
        raise ValueError(
            "A batch has the keys of tensorflow-datasets, which `fit` takes. Elsewhere load the "
            "dataset with `keras_gflv2.data.load_tfds`."
        )
    if "images" not in batch:
        raise ValueError(
            f'A batch must be a dictionary with "images" and "bounding_boxes"; got the keys '
            f"{sorted(batch)}."
        )
    _check_image_shape(batch["images"])
    given = y if y is not None else batch.get("bounding_boxes")
    targets = {}
    if given is not None:
        targets = _targets(given)
    elif need_targets:
        raise ValueError(
            'Training needs boxes: pass dictionaries with "images" and "bounding_boxes", or '
            "pairs (images, bounding_boxes)."
        )
    for key in ("image_sizes", "canvas_sizes"):
        if batch.get(key) is not None:
            targets[key] = batch[key]
    return batch["images"], targets


def _check_image_shape(images):
    if hasattr(images, "to_tensor"):
        raise ValueError(
            "`images` are ragged: they have several sizes. Resize them in the dataset, or pad them "
            'with `images.to_tensor()` and pass their own sizes as "image_sizes" (B, 2).'
        )
    shape = _shape(images)
    if shape is None or (len(shape) == 4 and shape[-1] in (3, None)):
        return
    advice = ""
    if len(shape) == 3:
        advice = " Put single images into batches: dataset.batch(8)."
    elif len(shape) == 4 and shape[1] == 3:
        advice = " Move the channels to the end: images.permute(0, 2, 3, 1)."
    raise ValueError(
        f"`images` must be a batch (B, H, W, 3) of RGB; got the shape {shape}.{advice}"
    )


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
        shape = _shape(targets[name])
        if shape is not None and len(shape) != rank:
            expected = "(B, N, 4)" if rank == 3 else "(B, N)"
            raise ValueError(f'"{name}" must have the shape {expected}; got {shape}.')
    return {key: targets[key] for key in TARGET_KEYS if targets.get(key) is not None}


def _shape(value):
    """Its shape as a tuple; None where even the rank is unknown, as in some tf.data."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return np.shape(value)
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def dense(targets):
    """Targets without ragged tensors, which KerasCV makes: rows are filled with class -1."""
    filled = {}
    for name, value in targets.items():
        if hasattr(value, "to_tensor"):
            shape = (None, None, 4) if name == "boxes" else None
            value = value.to_tensor(-1 if name == "classes" else 0, shape=shape)
        filled[name] = value
    return filled


def at_least_one_box(targets):
    """Targets whose N is not 0, as it is in a batch without objects: then one row of padding."""
    count = targets["classes"].shape[1]
    if count:
        return targets
    widened = {**targets}
    for name, value in targets.items():
        if name != "image_sizes":
            rest = [(0, 0)] * (len(value.shape) - 2)
            fill = -1 if name == "classes" else 0
            widened[name] = keras.ops.pad(
                value, [(0, 0), (0, 1), *rest], mode="constant", constant_values=fill
            )
    return widened


def usable(targets, num_classes):
    """Targets in which boxes without a meaning are padding, and how many of them there were.

    Args:
        targets: "boxes" (B, N, 4), "classes" (B, N) and others, as tensors of a step.
        num_classes: class ids are 0..num_classes - 1.
    """
    ops = keras.ops
    boxes, classes = targets["boxes"], ops.cast(targets["classes"], "float32")
    is_id = (classes < num_classes) & (classes == ops.round(classes))
    is_finite = ops.all(ops.isfinite(ops.cast(boxes, "float32")), axis=-1)
    faulty = (classes >= 0) & ~(is_id & is_finite)
    classes = ops.where(faulty, -1.0, classes)
    boxes = ops.where(faulty[..., None], ops.zeros_like(boxes), boxes)
    count = ops.sum(ops.cast(faulty, "float32"))
    return {**targets, "boxes": boxes, "classes": classes}, count


# === What its values must be ===


@dataclasses.dataclass(frozen=True)
class DataContract:
    """What a detector expects of data.

    Attributes:
        num_classes: class ids are 0..num_classes - 1, or -1 for padding.
        bounding_box_format: the format of the boxes.
        class_names: list of names in the order of the ids, or None.
        padding_color: RGB of what is outside of an image, in 0..255, or None.
    """

    num_classes: int
    bounding_box_format: str
    class_names: list | None = None
    padding_color: tuple | None = None

    @classmethod
    def of(cls, model):
        """The contract of a dense detector, or of anything with its attributes."""
        return cls(
            model.num_classes,
            model.bounding_box_format,
            getattr(model, "class_names", None),
            getattr(model, "padding_color", None),
        )

    def check_dataset(self, dataset):
        """Compares what a dataset says of itself: class names, box format, color of the padding.

        Raises:
            ValueError: the boxes are of another format, or the classes do not agree.
        """
        self.check_class_names(getattr(dataset, "class_names", None))
        boxes = getattr(dataset, "bounding_box_format", None)
        if boxes and str(boxes).lower() != self.bounding_box_format.lower():
            raise ValueError(
                f"The dataset has boxes in the format {boxes!r}, the model has "
                f"bounding_box_format={self.bounding_box_format!r}. Load the dataset with "
                f"bounding_box_format={self.bounding_box_format!r}, or make the model with the "
                "dataset's."
            )
        color = getattr(dataset, "padding_color", None)
        if color and self.padding_color and not np.allclose(color, self.padding_color, atol=0.01):
            warnings.warn(
                f"The dataset pads images with the RGB {tuple(color)}, which is not what the "
                f"model's backbone normalizes to zero, {self.padding_color}. Load the dataset with "
                "padding_color=model.padding_color.",
                stacklevel=4,
            )

    def check_class_names(self, names):
        """Compares class names with those of the model; None where the data has none.

        Raises:
            ValueError: they differ in number, or are the same names in another order. Other
                differences ("airplane", "aeroplane") only warn.
        """
        if not names:
            return
        names = [str(name) for name in names]
        if len(names) != self.num_classes:
            raise ValueError(
                f"The model has {self.num_classes} classes, the dataset has {len(names)}: {names}. "
                "Load the dataset with `class_names=model.class_names`, or give the model as many "
                "classes: `DenseDetector.from_preset(..., num_classes=...)`, then train it."
            )
        model_names = [str(name) for name in self.class_names] if self.class_names else names
        if sorted(model_names) == sorted(names) and model_names != names:
            raise ValueError(
                "The model and the dataset have the same classes in a different order: "
                f"{model_names} and {names}. Load the dataset with "
                "`class_names=model.class_names`."
            )
        if model_names != names:
            warnings.warn(
                f"The model was made for the classes {model_names}, the dataset has {names}; they "
                "are compared by position.",
                stacklevel=4,
            )

    def check_targets(self, targets, image_shape):
        """Checks the values of boxes and classes.

        Args:
            targets: "boxes" (B, N, 4), "classes" (B, N); optional "ignored" (B, N) and
                "image_sizes" (B, 2).
            image_shape: height and width of the batch.

        Raises:
            ValueError: naming the values that cannot be meant.
        """
        arrays = {key: keras.ops.convert_to_numpy(value) for key, value in targets.items()}
        boxes, classes = arrays["boxes"], arrays["classes"]
        if boxes.shape[:2] != classes.shape or boxes.shape[-1] != 4:
            raise ValueError(
                f'"boxes" {boxes.shape} and "classes" {classes.shape} must be (B, N, 4) and '
                "(B, N) with the same B and N."
            )
        if "ignored" in arrays and arrays["ignored"].shape != classes.shape:
            raise ValueError(
                f'"ignored" must have the shape of "classes", {classes.shape}; got '
                f"{arrays['ignored'].shape}."
            )
        self._check_class_ids(classes)
        present = boxes[classes >= 0].astype("float64")
        if not np.all(np.isfinite(present)):
            count = int(np.sum(~np.isfinite(present).all(-1)))
            raise ValueError(f"{count} boxes have NaN or infinite coordinates.")
        if present.size:
            box_format = self.bounding_box_format.lower()
            check_box_scale(present, box_format, image_shape)
            empty = np.sum(~_has_area(present, box_format))
            if empty:
                raise ValueError(
                    f"{empty} of {len(present)} boxes have no area when read as {box_format!r}: "
                    "wrong format, or boxes to leave out (set their class to -1)."
                )
        if "image_sizes" in arrays:
            _check_image_sizes(arrays["image_sizes"], len(boxes), image_shape)

    def _check_class_ids(self, classes):
        if classes.dtype.kind not in "biuf":
            raise ValueError(
                "Classes must be numbers, each the index of a name in `class_names`; got "
                f"{classes.reshape(-1)[:3].tolist()}."
            )
        ids = classes.astype("float64")
        is_id = (ids >= -1) & (ids < self.num_classes) & (ids == np.round(ids))
        wrong = classes[~is_id]
        if wrong.size:
            raise ValueError(
                f"Class ids must be 0..{self.num_classes - 1}, or -1 for padding; found "
                f"{wrong.size} others, e.g. {wrong[:5].tolist()}. The model has "
                f"num_classes={self.num_classes}."
            )


def check_pixels(images):
    """Warns where an image of a batch (B, H, W, 3) is plainly not RGB in 0..255."""
    if images.dtype != np.uint8 and images.size:
        warn_of_pixels(*pixel_statistics(images))


def warn_of_pixels(low, high, has_fractions):
    """The same of what `pixel_statistics` found.

    Raises:
        ValueError: pixels are NaN or infinite.
    """
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("Images have pixels that are NaN or infinite.")
    problem = pixel_problem(low, high, has_fractions)
    if problem:
        warnings.warn(f"An image {problem}", stacklevel=3)


def _check_image_sizes(sizes, batch, image_shape):
    if sizes.shape != (batch, 2):
        raise ValueError(
            f'"image_sizes" must be (B, 2), height and width of each image; got {sizes.shape} for '
            f"{batch} images."
        )
    if sizes.size and (sizes.min() < 1 or np.any(sizes > np.asarray(image_shape))):
        raise ValueError(
            f'"image_sizes" must lie within the batch, which is {tuple(image_shape)}; got '
            f"{sizes.tolist()[:4]}. They are (height, width)."
        )


def check_box_scale(boxes, bounding_box_format, image_shape):
    """Raises ValueError where fractions stand for pixels, or pixels for fractions.

    Args:
        boxes: (N, 4), without padding.
        bounding_box_format: in lower case.
        image_shape: height and width of the batch.
    """
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


def _has_area(boxes, bounding_box_format):
    """Which boxes (N, 4) have a positive width and height."""
    if bounding_box_format.endswith(("xywh", "yxhw")):
        return (boxes[:, 2:] > 0).all(axis=-1)
    return (boxes[:, 2:] > boxes[:, :2]).all(axis=-1)
