"""The user's own augmentation: functions, and layers of Keras and KerasCV, on one example."""

import inspect

import keras
import tensorflow as tf

from keras_gflv2.data.augmentation import Augmentation, area, compact


def split_augmentation(augmentation):
    """What a loader's `augmentation` says: an `Augmentation`, and the user's own functions.

    Args:
        augmentation: an `Augmentation`; a function or layer; or a list of functions and layers,
            whose first may be an `Augmentation`.

    Returns:
        Tuple of an `Augmentation`, that changes nothing where none is given, and a list.

    Raises:
        ValueError: it is something else.
    """
    items = list(augmentation) if isinstance(augmentation, (list, tuple)) else [augmentation]
    first = Augmentation.preset("none")
    if items and isinstance(items[0], Augmentation):
        first = items.pop(0)
    for item in items:
        if isinstance(item, Augmentation):
            raise ValueError("An Augmentation comes first in the list of `augmentation`, and once.")
        if not callable(item):
            raise ValueError(
                "`augmentation` must be a keras_gflv2.data.Augmentation, a function, a layer of "
                f"Keras or KerasCV, or a list of them. Received: {type(item).__name__}"
            )
    return first, items


class OwnAugmentation:
    """Calls functions and layers one after another on an example, in a tf.data graph.

    A function gets what a batch has, for one image: {"images": float32 (h, w, 3) in 0..255,
    "bounding_boxes": {"boxes": (n, 4) in the loader's format, "classes": (n,) float32}} of n
    objects, and returns the same with as many objects, or -1 in "classes" for one that is gone. If
    it has an argument `seed`, it gets int32 (2,) for TensorFlow's stateless random functions. A
    layer gets the boxes in its own `bounding_box_format`, and may leave objects out.

    The image must keep its size.

    Args:
        functions: the user's functions and layers.
        bounding_box_format: format of the boxes that functions see.
    """

    def __init__(self, functions, bounding_box_format):
        self.functions = functions
        self.bounding_box_format = bounding_box_format.lower()

    def __bool__(self):
        return bool(self.functions)

    def __call__(self, example, seed):
        """Args: `example`, a dictionary as in `augmentation`; `seed`, int32 (2,)."""
        count = example["classes"].shape[0]
        for number, function in enumerate(self.functions):
            if isinstance(function, keras.layers.Layer):
                example = self._call_layer(function, example)
            else:
                own_seed = tf.random.fold_in(seed, 2 + number)
                example = self._call_function(function, example, own_seed)
            example = _cut(example)
        if count is None:
            count = tf.shape(example["classes"])[0]
        return compact(example, count)

    def _call_layer(self, layer, example):
        """A layer may leave out rows: its classes are the numbers of the rows."""
        is_keras = type(layer).__module__.startswith("keras.")
        key = "labels" if is_keras else "classes"
        box_format = getattr(layer, "bounding_box_format", None) or self.bounding_box_format
        rows = tf.range(tf.shape(example["classes"])[0])
        rows = tf.where(example["classes"] >= 0, rows, -1)
        data = _as_batch(example, box_format, key, tf.cast(rows, "float32"))
        try:
            result = layer(data)
        except NotImplementedError as error:
            name = f"{type(layer).__module__.split('.')[0]}.layers.{type(layer).__name__}"
            raise ValueError(
                f"{name} cannot move boxes in tf.data on the backend {keras.backend.backend()}. "
                "Use a layer of the other library (keras.layers or keras_cv.layers), the same of "
                "keras_gflv2.data.Augmentation, or KERAS_BACKEND=tensorflow."
            ) from error
        image, boxes, rows = _of_batch(result, box_format, key, example)
        rows = tf.cast(rows, "int32")
        found = tf.boolean_mask(rows, rows >= 0)
        values = {k: tf.gather(example[k], found) for k in ("classes", "ignored", "areas")}
        return {"image": image, "boxes": tf.boolean_mask(boxes, rows >= 0), **values}

    def _call_function(self, function, example, seed):
        present = example["classes"] >= 0
        example = {
            k: v if k == "image" else tf.boolean_mask(v, present) for k, v in example.items()
        }
        classes = tf.cast(example["classes"], "float32")
        data = _as_batch(example, self.bounding_box_format, "classes", classes)
        options = {"seed": seed} if "seed" in inspect.signature(function).parameters else {}
        # AutoGraph, which the rest of the pipeline does without, for its Python conditions.
        result = tf.function(lambda: function(data, **options))()
        image, boxes, classes = _of_batch(result, self.bounding_box_format, "classes", example)
        same = tf.debugging.assert_equal(
            tf.shape(classes)[0],
            tf.shape(example["classes"])[0],
            "A function of `augmentation` must return as many boxes as it gets, in their order: "
            "set the class of one that is gone to -1.",
        )
        with tf.control_dependencies([same] if same is not None else []):
            classes = tf.cast(tf.round(classes), "int32")
        return example | {"image": image, "boxes": boxes, "classes": classes}


def _as_batch(example, box_format, key, classes):
    """An example as Keras and KerasCV have it."""
    boxes = _convert(example["boxes"], "xyxy", box_format, example["image"])
    return {"images": example["image"], "bounding_boxes": {"boxes": boxes, key: classes}}


def _of_batch(result, box_format, key, example):
    """Image, boxes and classes of what a function returned."""
    try:
        image, objects = result["images"], result["bounding_boxes"]
        boxes, classes = objects["boxes"], objects[key]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(
            'A function of `augmentation` must return {"images", "bounding_boxes": {"boxes", '
            f'"classes"}}}}, as it gets. It returned {type(result).__name__} without {error}.'
        ) from error
    boxes, classes = (  # KerasCV gives some of its results ragged
        v.to_tensor() if isinstance(v, tf.RaggedTensor) else tf.convert_to_tensor(v)
        for v in (boxes, classes)
    )
    image = tf.cast(image, "float32")
    same = tf.debugging.assert_equal(
        tf.shape(image),
        tf.shape(example["image"]),
        "A function or layer of `augmentation` must keep the size of the image: `image_size` of "
        "the loader resizes, and `scale` of an Augmentation crops.",
    )
    with tf.control_dependencies([same] if same is not None else []):
        image = tf.ensure_shape(image, [None, None, 3])
    boxes = tf.reshape(tf.cast(boxes, "float32"), [-1, 4])
    return image, _convert(boxes, box_format, "xyxy", image), tf.reshape(classes, [-1])


def _convert(boxes, source, target, image):
    height, width = (tf.cast(side, "float32") for side in tf.unstack(tf.shape(image)[:2]))
    return keras.utils.bounding_boxes.convert_format(
        boxes, source=source, target=target, height=height, width=width, dtype="float32"
    )


def _cut(example):
    """Cuts boxes at the edges of the image; those outside of it become padding."""
    height, width = tf.unstack(tf.cast(tf.shape(example["image"])[:2], "float32"))
    boxes = tf.clip_by_value(example["boxes"], 0.0, tf.stack([width, height, width, height]))
    classes = tf.where(area(boxes) > 0, example["classes"], -1)
    return example | {"boxes": boxes, "classes": classes}
