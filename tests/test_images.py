"""Every kind of picture becomes RGB of 8 bits; resizing equals tf.image.resize."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_gflv2 import images
from keras_gflv2.images import read_image, read_image_size, resize_image, resize_shape


@pytest.mark.parametrize(
    "size, image_size, expected",
    [
        ((480, 640), (800, 1333), (800, 1067)),  # 640 * 800 / 480 = 1066.67
        ((427, 640), (800, 1333), (800, 1199)),
        ((640, 427), (800, 1333), (1199, 800)),
        ((500, 2000), (800, 1333), (333, 1333)),  # The long side decides.
        ((480, 640), (240, 320), (240, 320)),
        ((1, 5000), (800, 1333), (1, 1333)),  # Never less than a pixel.
    ],
)
def test_ratio_is_kept(size, image_size, expected):
    assert resize_shape(size, image_size) == expected


@pytest.mark.parametrize(
    "old, new",
    [((48, 64), (24, 32)), ((100, 77), (231, 178)), ((64, 64), (21, 47)), ((37, 50), (107, 145))],
)
def test_numpy_and_tensorflow_resize_to_the_same_pixels(old, new):
    image = np.random.default_rng(0).integers(0, 256, (*old, 3), dtype=np.uint8)
    expected = np.floor(tf.image.resize(image, new, antialias=False).numpy() + 0.5)
    np.testing.assert_array_equal(resize_image(image, new), expected)


def test_half_size_is_the_mean_of_four_pixels():
    """Half-pixel centres: each new pixel lies in the middle of four old ones."""
    image = np.random.default_rng(0).integers(0, 256, (8, 6, 3)).astype("uint8")
    mean = image.reshape(4, 2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(resize_image(image, (4, 3)), np.floor(mean + 0.5))


def test_same_size_is_untouched():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype("uint8")
    np.testing.assert_array_equal(resize_image(image, (9, 7)), image)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 257, 25700, 65535]], "uint16").repeat(4, axis=0)
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    expected = np.array([0, 1, 100, 255], "uint8")
    np.testing.assert_array_equal(read_image(path)[0, :, 0], expected)
    np.testing.assert_array_equal(read_image(path)[0, :, 2], expected)
    np.testing.assert_array_equal(read_image(values)[0, :, 1], expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK"])
def test_modes_become_rgb(tmp_path, mode):
    """A picture of one pure colour keeps it through every mode that can hold it."""
    colour = (255, 255, 255) if mode in ("1", "L", "LA") else (255, 0, 0)
    suffix = "jpg" if mode == "CMYK" else "png"
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (20, 10), colour).convert(mode).save(path)
    image = read_image(path)
    assert image.shape == (10, 20, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - colour).max() <= 2  # JPEG rounds.


def test_transparency_is_dropped():
    rgba = np.zeros((4, 5, 4), "uint8")
    rgba[..., 1] = 200
    np.testing.assert_array_equal(read_image(rgba)[0, 0], [0, 200, 0])
    np.testing.assert_array_equal(read_image(Image.fromarray(rgba))[0, 0], [0, 200, 0])


def test_exif_orientation_is_optional(tmp_path):
    image = np.zeros((10, 20, 3), "uint8")
    image[:, :5] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise for display: the left side comes to the top.
    path = tmp_path / "turned.png"
    Image.fromarray(image).save(path, exif=exif)
    assert read_image_size(path) == (10, 20, 6)
    np.testing.assert_array_equal(read_image(path, exif=False), image)
    upright = read_image(path)
    assert upright.shape == (20, 10, 3)
    assert upright[:5].min() == 255 and upright[5:].max() == 0


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(ValueError, match="is a folder"):
        read_image(tmp_path)
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    with pytest.raises(ValueError, match=r"text\.jpg is not an image"):
        read_image(text)
    whole = tmp_path / "whole.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        whole
    )
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:1500])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be decoded"):
        read_image(cut)
    with pytest.raises(ValueError, match=r"shape=\(3, 4, 5\)"):
        read_image(np.zeros((3, 4, 5), "uint8"))
    with pytest.raises(ValueError, match="not finite"):
        read_image(np.full((3, 4, 3), np.nan))
    with pytest.raises(TypeError, match="int"):
        read_image(3)


def test_larger_pictures_are_refused_unless_they_are_trusted(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.fromarray(np.zeros((9, 12, 3), "uint8")).save(path)
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        with pytest.raises(ValueError, match=r"12 x 9 pixels, more than the 100 .*MAX_PIXELS"):
            read_image(source)
    with pytest.raises(ValueError, match=r"large\.png"):
        read_image(path)
    assert read_image_size(path) == (9, 12, 1)
    monkeypatch.setattr(images, "MAX_PIXELS", 108)
    assert read_image(path).shape == (9, 12, 3)


def test_cmyk_is_paper_that_shines_through_the_inks(tmp_path):
    """The product of what each ink and black let through, rounded down."""
    inks = np.random.default_rng(0).integers(0, 256, (7, 9, 4)).astype("uint8")
    passed = 255 - inks.astype(int)
    read = read_image(Image.fromarray(inks, "CMYK"))
    np.testing.assert_array_equal(read, passed[..., :3] * passed[..., 3:] // 255)


def test_imports_are_few():
    """Reading pictures brings no tensorflow; the package no plotting, tfds or pycocotools."""
    code = """
import sys, keras  # Keras itself imports matplotlib where it is installed.
before = set(sys.modules)
import keras_gflv2.images
print("tensorflow" in set(sys.modules) - before, "keras_gflv2.data.pipeline" in sys.modules)
import tensorflow
before = set(sys.modules)
from keras_gflv2.data import *
heavy = {"tensorflow_datasets", "matplotlib", "pycocotools"}
print(sorted(heavy & (set(sys.modules) - before)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip().splitlines()[-2:] == ["False False", "[]"]
