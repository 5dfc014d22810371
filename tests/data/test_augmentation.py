"""Augmentations move boxes with the pixels: each test finds the object in the picture itself."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_gflv2.data import Augmentation, load_voc
from keras_gflv2.data.augmentation import (
    augment,
    compact,
    jitter_colour,
    place,
    quarter_turn,
)
from keras_gflv2.data.erasing import erase
from keras_gflv2.data.mixing import mixup, mosaic
from keras_gflv2.images import MEAN_COLOUR


def example(height=48, width=64, box=(10, 20, 30, 28), ignored=0):
    """A black picture with one white box, and one padding entry."""
    image = np.zeros((height, width, 3), "uint8")
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return {
        "image": tf.constant(image),
        "boxes": tf.constant([box, (0, 0, 0, 0)], "float32"),
        "classes": tf.constant([2, -1]),
        "ignored": tf.constant([ignored, 0]),
        "areas": tf.constant([160.0, 0.0]),
    }


def white_box(image):
    """xyxy of the white pixels."""
    rows, columns = np.nonzero(np.asarray(image).min(axis=-1) > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    "options",
    [
        {"horizontal_flip": 1.0},
        {"vertical_flip": 1.0},
        {"scale": (0.5, 2.0)},
        {"translate": 0.3},
        {"horizontal_flip": 0.5, "vertical_flip": 0.5, "scale": (0.6, 1.5), "translate": 0.1},
    ],
)
@pytest.mark.parametrize("frame", [(48, 64), (96, 128)])
def test_boxes_follow_the_pixels(options, frame):
    augmentation = Augmentation(**({"horizontal_flip": 0.0} | options), min_visible=0.0)
    visible = 0
    for seed in range(12):
        result = augment(example(), tf.constant(frame), tf.constant([seed, 1]), augmentation)
        assert result["image"].shape == (*frame, 3)
        if result["classes"][0] == 2:
            visible += 1
            # Interpolation blurs an edge by up to a pixel and a half.
            np.testing.assert_allclose(result["boxes"][0], white_box(result["image"]), atol=1.6)
        assert result["classes"][1] == -1
    assert visible >= 6


def test_flips_are_exact():
    augmentation = Augmentation(horizontal_flip=1.0)
    result = augment(example(), tf.constant([48, 64]), tf.constant([0, 0]), augmentation)
    np.testing.assert_array_equal(result["boxes"][0], [64 - 30, 20, 64 - 10, 28])
    np.testing.assert_array_equal(result["image"], example()["image"][:, ::-1])


def test_quarter_turn_is_exact():
    result = quarter_turn(example())
    np.testing.assert_array_equal(result["image"], np.rot90(example()["image"]))
    np.testing.assert_array_equal(result["boxes"][0], white_box(result["image"]))


def test_hardly_visible_boxes_become_padding_but_ignored_ones_stay():
    # The box (10, 20, 30, 28) is shifted out to the left until a quarter of it is left.
    for ignored, expected in ((0, -1), (1, 2)):
        result = place(example(ignored=ignored), tf.constant([48, 64]), tf.constant([0, -25]), 0.3)
        assert result["classes"][0] == expected
    gone = place(example(ignored=1), tf.constant([48, 64]), tf.constant([0, -40]), 0.3)
    assert gone["classes"][0] == -1


def test_uncovered_parts_have_the_mean_colour():
    result = place(example(), tf.constant([60, 70]), tf.constant([5, 3]))
    image = result["image"].numpy()
    np.testing.assert_array_equal(image[5:53, 3:67], example()["image"])
    np.testing.assert_array_equal(image[0, 0], np.float32(MEAN_COLOUR))
    np.testing.assert_array_equal(image[59, 69], np.float32(MEAN_COLOUR))


def test_mosaic_keeps_all_four_consistent():
    """Objects stand where the pixels are, and come from more than one picture."""
    frame = tf.constant([48, 64])
    none = Augmentation(horizontal_flip=0.0)
    parts = []
    for i in range(4):
        part = augment(example(box=(0, 0, 64, 48)), frame, tf.constant([0, 0]), none)
        parts.append(part | {"image": tf.fill([48, 64, 3], float(40 * i + 40))})
        parts[-1]["classes"] = tf.constant([i, -1])
    for seed in range(5):
        result = mosaic(parts, tf.constant([seed, 2]), 0.0, 8)
        assert result["image"].shape == (48, 64, 3)
        np.testing.assert_array_equal(result["classes"], [0, 1, 2, 3, -1, -1, -1, -1])
        for box, colour in zip(result["boxes"].numpy()[:4].astype(int), (40, 80, 120, 160)):
            x1, y1, x2, y2 = box
            assert (result["image"].numpy()[y1:y2, x1:x2] == colour).all()
            assert (result["image"].numpy() == colour).sum() == 3 * (x2 - x1) * (y2 - y1)


def test_mosaic_with_too_many_boxes_loses_none():
    frame = tf.constant([48, 64])
    part = augment(example(), frame, tf.constant([0, 0]), Augmentation(horizontal_flip=0.0))
    part |= {"boxes": tf.constant([(0.0, 0, 64, 48)] * 2), "classes": tf.constant([1, 1])}
    result = mosaic([part] * 4, tf.constant([1, 2]), 0.0, 4)  # 8 boxes are in view.
    np.testing.assert_array_equal(result["classes"], [1, 1, -1, -1])
    np.testing.assert_array_equal(result["boxes"][:2], part["boxes"])


def test_compact_moves_padding_to_the_end():
    scattered = example() | {
        "boxes": tf.constant([(9.0, 9, 9, 9), (1, 1, 2, 2)]),
        "classes": tf.constant([-1, 4]),
    }
    result = compact(scattered, 3)
    np.testing.assert_array_equal(result["classes"], [4, -1, -1])
    np.testing.assert_array_equal(result["boxes"], [(1, 1, 2, 2), (0, 0, 0, 0), (0, 0, 0, 0)])


def test_hue_keeps_luminance_and_saturation_keeps_grey():
    random = np.random.default_rng(0)
    image = tf.constant(random.uniform(90, 160, (8, 8, 3)), "float32")
    luma = np.array([0.299, 0.587, 0.114])
    turned = jitter_colour(image, tf.constant([3, 1]), Augmentation(hue=0.5))
    assert np.abs(turned - image).max() > 1
    np.testing.assert_allclose(turned.numpy() @ luma, image.numpy() @ luma, atol=0.1)
    grey = tf.fill([4, 4, 3], 100.0)
    same = jitter_colour(grey, tf.constant([3, 1]), Augmentation(saturation=0.5, hue=0.2))
    np.testing.assert_allclose(same, grey, atol=1e-2)
    brighter = jitter_colour(grey, tf.constant([3, 1]), Augmentation(brightness=0.5)).numpy()
    assert np.ptp(brighter) < 1e-3 and 50 <= brighter[0, 0, 0] <= 150
    mean = jitter_colour(image, tf.constant([4, 1]), Augmentation(contrast=0.9)).numpy() @ luma
    np.testing.assert_allclose(mean.mean(), (image.numpy() @ luma).mean(), atol=0.1)


def test_no_augmentation_changes_nothing_in_training(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    options = {"image_size": (40, 50), "batch_size": 1}
    none = Augmentation(horizontal_flip=0.0)
    (train,) = list(load_voc(folder, "train", train=True, augmentation=none, **options))
    (plain,) = list(load_voc(folder, "train", **options))
    np.testing.assert_array_equal(train["images"], plain["images"])
    np.testing.assert_array_equal(
        train["bounding_boxes"]["boxes"], plain["bounding_boxes"]["boxes"]
    )


def test_everything_at_once_runs_through_the_pipeline(voc_tree):
    sizes = [(40, 60), (60, 40), (50, 90)]
    images = {f"i{i}": (size, [("dog", (5, 5, 25, 30))]) for i, size in enumerate(sizes)}
    augmentation = Augmentation(
        vertical_flip=0.5,
        rotate90=0.5,
        scale=(0.5, 2.0),
        translate=0.2,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.1,
        mosaic=0.5,
    )
    ds = load_voc(
        voc_tree(images),
        "train",
        image_size=((32, 64), 96),
        batch_size=2,
        train=True,
        augmentation=augmentation,
        seed=0,
    )
    for _ in range(2):
        for batch in ds:
            height, width = batch["images"].shape[1:3]
            assert height % 32 == 0 and width % 32 == 0
            assert (batch["image_sizes"].numpy() <= [height, width]).all()
            images, objects = batch["images"].numpy(), batch["bounding_boxes"]
            assert images.min() >= 0 and images.max() <= 255
            assert objects["boxes"].shape == (2, 16, 4)  # Twice the 8 of an image.
            real = objects["classes"].numpy() >= 0
            boxes = objects["boxes"].numpy()[real]
            assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes.min(initial=0) >= 0
            limits = np.repeat(batch["image_sizes"].numpy()[:, None, ::-1], 16, axis=1)[real]
            assert (boxes[:, 2:] <= limits + 1e-3).all()


def test_padding_color_fills_all_that_no_picture_covers(voc_tree):
    """Padding, shifts and mosaics; red does not occur in the gray pictures."""
    folder = voc_tree({f"i{i}": ((40 + 9 * i, 60), [("dog", (5, 5, 25, 30))]) for i in range(4)})
    for path in (folder / "JPEGImages").iterdir():
        Image.new("RGB", Image.open(path).size, (90, 90, 90)).save(path)
    moves = Augmentation(scale=(0.5, 0.9), translate=0.3, mosaic=0.5)
    for options in ({"train": True, "augmentation": moves, "seed": 0}, {}):
        ds = load_voc(folder, "train", image_size=(40, 60), padding_color=(255, 0, 0), **options)
        assert ds.padding_color == (255, 0, 0)
        colors = {tuple(color) for batch in ds for color in batch["images"].numpy().reshape(-1, 3)}
        assert colors == {(90, 90, 90), (255, 0, 0)}
    assert load_voc(folder, "train").padding_color == MEAN_COLOUR


@pytest.mark.parametrize("color", [(255, 0), "red", 0, (0, 0, 256), (0, 0, float("nan")), (1,) * 4])
def test_padding_color_is_checked(voc_tree, color):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    with pytest.raises(ValueError, match="`padding_color` must be"):
        load_voc(folder, "train", padding_color=color)


def test_mixed_images_show_both_and_have_the_boxes_of_both():
    first, second = example(), example(box=(40, 5, 60, 15), height=40, width=80)
    first, second = (e | {"image": tf.cast(e["image"], "float32")} for e in (first, second))
    mixed = mixup([first, second], tf.constant([1, 2]), 0.3, 8)
    classes, boxes = mixed["classes"].numpy(), mixed["boxes"].numpy()
    assert classes.tolist() == [2, 2, -1, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(boxes[:2], [(10, 20, 30, 28), (40, 5, 60, 15)])
    image = mixed["image"].numpy()
    assert image.shape == (48, 64, 3)  # the frame of the first
    parts = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes[:2].astype(int)]
    weights = [part.mean() / 255 for part in parts]
    assert sum(weights) == pytest.approx(1, abs=1e-4) and min(weights) > 0.2
    assert all(np.ptp(part) < 1e-3 for part in parts)
    assert image[0, 0].max() == 0


def test_a_box_beyond_the_frame_of_a_mixed_image_becomes_padding():
    first, second = example(), example(box=(70, 5, 78, 15), width=80)
    first, second = (e | {"image": tf.cast(e["image"], "float32")} for e in (first, second))
    assert (mixup([first, second], tf.constant([1, 2]), 0.3, 4)["classes"].numpy() >= 0).sum() == 1


def test_what_is_erased_has_one_color_and_hides_what_it_covers():
    """Where less than `min_visible` of a box is left, the box is gone."""
    seen = set()
    for seed in range(40):
        white = example(height=60, width=80, box=(0, 0, 80, 60))
        white["boxes"] = tf.constant([(0, 0, 80, 60), (30, 20, 40, 30)], "float32")
        white["classes"] = tf.constant([0, 1])
        white["image"] = tf.cast(white["image"], "float32")
        erased = erase(white, tf.constant([seed, 0]), 0.5, (1.0, 2.0, 3.0))
        hidden = np.all(erased["image"].numpy() == [1, 2, 3], axis=-1)
        rows, columns = np.nonzero(hidden)
        x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert hidden.sum() == (x2 - x1) * (y2 - y1) and hidden.sum() / hidden.size < 0.22
        visible = 1 - hidden[20:30, 30:40].mean()
        classes = erased["classes"].numpy().tolist()
        assert classes == [0, 1 if visible >= 0.5 else -1]
        seen.add(classes[1])
    assert seen == {1, -1}


def test_presets_are_named():
    assert Augmentation.preset("none") == Augmentation(horizontal_flip=0.0)
    assert Augmentation.preset("light", hue=0.1).hue == 0.1
    with pytest.raises(ValueError, match="'light', 'strong'"):
        Augmentation.preset("heavy")


@pytest.mark.parametrize(
    "options", [{"mosaic": 1.5}, {"hue": 0.6}, {"scale": (2, 1)}, {"scale": 0.5}, {"translate": -1}]
)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Augmentation(**options)


def test_augmentation_needs_training(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    with pytest.raises(ValueError, match="train=True"):
        load_voc(folder, "train", augmentation=Augmentation())
