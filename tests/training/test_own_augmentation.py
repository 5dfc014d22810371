"""The user's own augmentation: functions and layers see what a batch has, and boxes follow."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gflv2.data import Augmentation, load_shapes
from keras_gflv2.data.own_augmentation import OwnAugmentation

keras_cv = pytest.importorskip("keras_cv")

BOX = (10, 20, 30, 28)
IGNORED = (40, 10, 60, 40)


def example():
    """A black picture with one white box, a green one to ignore, and padding between them."""
    image = np.zeros((48, 64, 3), "float32")
    image[20:28, 10:30] = 255
    image[10:40, 40:60, 1] = 200
    return {
        "image": tf.constant(image),
        "boxes": tf.constant([BOX, (0, 0, 0, 0), IGNORED], "float32"),
        "classes": tf.constant([2, -1, 5]),
        "ignored": tf.constant([0, 0, 1]),
        "areas": tf.constant([160.0, 0.0, 600.0]),
    }


def augmented(functions, box_format="xyxy", seed=(0, 1)):
    """What becomes of the example in a tf.data graph, as arrays."""
    own = OwnAugmentation(functions, box_format)
    dataset = tf.data.Dataset.from_tensors(example())
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(lambda e: own(e, tf.constant(seed)))
    )
    return next(dataset.as_numpy_iterator())


def box_of(pixels):
    rows, columns = np.nonzero(pixels)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def assert_boxes_follow(found, pixels=1.0):
    """Both boxes are where their pixels are, and still what they were; padding comes last."""
    assert found["classes"].tolist() == [2, 5, -1] and found["ignored"].tolist() == [0, 1, 0]
    assert found["areas"].tolist() == [160, 600, 0]
    image = found["image"]
    np.testing.assert_allclose(found["boxes"][0], box_of(image[..., 0] > 127), atol=pixels)
    green = image[..., 1] - image[..., 0] > 100
    np.testing.assert_allclose(found["boxes"][1], box_of(green), atol=pixels)


def layer(name, **options):
    """The layer "cv.NAME" or "keras.NAME"."""
    library, _, name = name.partition(".")
    return getattr(keras_cv.layers if library == "cv" else keras.layers, name)(**options)


@pytest.mark.parametrize(
    "name, options",
    [
        ("cv.RandomFlip", {"rate": 1.0, "bounding_box_format": "xyxy"}),
        ("cv.RandomFlip", {"rate": 1.0, "bounding_box_format": "rel_yxyx"}),
        ("cv.RandomTranslation", {"height_factor": 0.1, "width_factor": 0.05}),
        ("cv.RandomShear", {"x_factor": 0.0, "y_factor": 0.0}),
        ("keras.RandomFlip", {"mode": "horizontal", "bounding_box_format": "xywh"}),
        ("keras.RandomTranslation", {"height_factor": 0.1, "width_factor": 0.05}),
    ],
)
def test_boxes_follow_a_layer_in_the_layers_own_format(name, options):
    """KerasCV leaves out padding, in which case rows change their places."""
    moves = layer(name, **{"bounding_box_format": "xyxy", **options})
    try:
        found = augmented([moves], box_format="center_xywh")
    except ValueError as error:
        # Keras 3.15's own layers make NumPy calls on tensors of tf.data there.
        assert name.startswith("keras.") and keras.backend.backend() != "tensorflow"
        assert "cannot move boxes in tf.data" in str(error) and "KERAS_BACKEND" in str(error)
        return
    assert_boxes_follow(found)


@pytest.mark.parametrize(
    "name, options",
    [
        ("cv.AutoContrast", {"value_range": (0, 255)}),
        ("cv.Grayscale", {"output_channels": 3}),
        ("cv.Posterization", {"value_range": (0, 255), "bits": 4}),  # ragged results
        ("cv.RandomColorJitter", {"brightness_factor": 0.1}),
        ("cv.RandomCutout", {"height_factor": 0.1, "width_factor": 0.1}),
        ("cv.RandomGaussianBlur", {"kernel_size": 3, "factor": 0.5}),
        ("cv.RandomHue", {"factor": 0.2, "value_range": (0, 255)}),
        ("keras.RandomBrightness", {"factor": 0.1, "bounding_box_format": "xyxy"}),
        ("keras.RandomContrast", {"factor": 0.1, "bounding_box_format": "xyxy"}),
    ],
)
def test_layers_that_change_colors_leave_boxes(name, options):
    if "Jitter" in name:
        options = {
            **{"contrast_factor": 0.1, "saturation_factor": 0.1, "hue_factor": 0.1},
            **{"value_range": (0, 255), **options},
        }
    found = augmented([layer(name, **options)])
    assert found["classes"].tolist() == [2, 5, -1] and found["ignored"].tolist() == [0, 1, 0]
    np.testing.assert_allclose(found["boxes"][:2], [BOX, IGNORED], atol=1e-3)
    assert found["image"].shape == (48, 64, 3)


def flip(data):
    boxes = data["bounding_boxes"]["boxes"]
    x, y, width, height = tf.unstack(boxes, axis=1)
    boxes = tf.stack([1 - x - width, y, width, height], axis=1)
    return {
        "images": data["images"][:, ::-1],
        "bounding_boxes": {**data["bounding_boxes"], "boxes": boxes},
    }


def test_a_function_sees_objects_in_the_loaders_format():
    seen = []

    def look(data):
        seen.append((data["images"].dtype, data["bounding_boxes"]["classes"].dtype))
        return data

    found = augmented([look, flip], box_format="rel_xywh")
    assert_boxes_follow(found, 1e-3)
    np.testing.assert_allclose(found["boxes"][0], (34, 20, 54, 28), atol=1e-3)
    assert seen == [(tf.float32, tf.float32)]


def test_a_function_may_branch_and_drop_objects():
    def dark(data):
        image, objects = data["images"], data["bounding_boxes"]
        if tf.reduce_mean(image) < 1000.0:  # a Python condition on a tensor
            image = image * 0.5
        classes = tf.where(objects["classes"] == 2.0, -1.0, objects["classes"])
        return {"images": image, "bounding_boxes": {**objects, "classes": classes}}

    found = augmented([dark])
    assert found["image"].max() == 127.5
    assert found["classes"].tolist() == [5, -1, -1] and found["ignored"].tolist() == [1, 0, 0]


def test_a_function_with_a_seed_is_repeated_by_it():
    def noisy(data, seed):
        noise = tf.random.stateless_uniform(tf.shape(data["images"]), seed)
        return {**data, "images": data["images"] + noise}

    one, again, other = (augmented([noisy], seed=s)["image"] for s in ((3, 4), (3, 4), (3, 5)))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "function, message",
    [
        (lambda data: {**data, "images": data["images"][:40]}, "must keep the size of the image"),
        (lambda data: data["images"], "must return"),
        (
            lambda data: {
                "images": data["images"],
                "bounding_boxes": {k: v[:1] for k, v in data["bounding_boxes"].items()},
            },
            "as many boxes as it gets",
        ),
    ],
)
def test_mistakes_of_a_function_are_told(function, message):
    with pytest.raises(Exception, match=message):
        augmented([function])


def test_a_layer_that_resizes_is_told_what_does_it_here():
    resize = keras_cv.layers.JitteredResize((32, 32), (0.8, 1.2), bounding_box_format="xyxy")
    with pytest.raises(Exception, match="`image_size` of the loader resizes"):
        augmented([resize])


def test_loaders_take_functions_and_layers_alone_or_after_ours():
    mirror = Augmentation(horizontal_flip=1.0)
    gray = keras_cv.layers.Grayscale(output_channels=3)

    def lefts(augmentation):
        options = {"batch_size": 2, "image_size": (64, 64), "train": True, "seed": 0}
        ds = load_shapes("train", num_images=2, size=64, augmentation=augmentation, **options)
        objects = next(iter(ds))["bounding_boxes"]
        boxes = np.asarray(objects["boxes"])[np.asarray(objects["classes"]) >= 0]
        return sorted(boxes[:, 0].round(2)), sorted((64 - boxes[:, 2]).round(2))

    plain, mirrored = lefts(lambda data: data)  # no flip of ours
    assert plain != mirrored
    assert lefts([gray]) == (plain, mirrored)
    assert lefts([mirror, gray]) == (mirrored, plain)
    assert lefts([mirror]) == (mirrored, plain)
    for wrong in ("strong", [gray, mirror], [mirror, 3]):
        with pytest.raises(ValueError, match="augmentation"):
            lefts(wrong)
