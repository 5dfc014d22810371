"""Synthetic pictures of textured circles, squares and triangles: data that needs no download.

Every picture is a function of (dataset_seed, split, index): the same on every machine, different
between splits. numpy and PIL only.
"""

import dataclasses
import functools
import math
import zlib

import numpy as np
from PIL import Image, ImageDraw

from keras_gflv2.data.pipeline import dataset_of
from keras_gflv2.data.records import (
    Annotations,
    Report,
    check_class_names,
    class_index,
    make_record,
)
from keras_gflv2.data.takes_options import takes_options

SHAPE_NAMES = ("circle", "square", "triangle")
DEFAULT_NUM_IMAGES = {"train": 512}
SUPERSAMPLING = 4  # Masks are drawn larger and averaged: smooth edges, boxes to a quarter pixel.
MIN_VISIBLE = 0.35  # At least this part of each shape stays in front of the later ones.
ATTEMPTS = 20
TILT = 0.2  # radians


@takes_options
def load_shapes(
    split="train",
    *,
    num_images=None,
    size=128,
    objects=(1, 6),
    dataset_seed=0,
    image_size=None,
    class_names=None,
    invalid_boxes="drop",
    options,
):
    """Generates a dataset of shapes.

    ```python
    train_ds = keras_gflv2.data.load_shapes("train", num_images=512, train=True, seed=1)
    val_ds = keras_gflv2.data.load_shapes("val", num_images=128)
    ```

    Args:
        split: any name; splits of different names have different pictures.
        num_images: number of pictures; 512 for "train" and 128 for others by default.
        size: height and width of the pictures in pixels; an int or `(height, width)`.
        objects: smallest and largest number of shapes in a picture.
        dataset_seed: int, for the content of the pictures. `seed` is for shuffling and augmenting.
        image_size: `(short, longest)` to resize; by default the pictures stay as they are.
        class_names: `("circle", "square", "triangle")` in the order of the classes.
        invalid_boxes: as for the other loaders; shapes have no invalid boxes.
        options: the `LoaderOptions`.

    Returns:
        `tf.data.Dataset` as `keras_gflv2.data.build_dataset` describes.
    """
    height, width = _check_size(size)
    image_size = image_size or (min(height, width), max(height, width))
    options = dataclasses.replace(options, image_size=image_size)
    report = Report(f"shapes:{split}", invalid_boxes)
    found = read_shapes(
        split, report, num_images, size, objects, dataset_seed, class_names=class_names
    )
    return dataset_of(found, options)


def read_shapes(
    split, report, num_images=None, size=128, objects=(1, 6), dataset_seed=0, class_names=None
):
    """The `Annotations` of generated pictures; arguments as in `load_shapes`."""
    height, width = _check_size(size)
    objects = _check_objects(objects)
    if num_images is None:
        num_images = DEFAULT_NUM_IMAGES.get(split, 128)
    if num_images < 1:
        raise ValueError(f"`num_images` must be at least 1. Received: num_images={num_images}")
    class_names = check_class_names(SHAPE_NAMES if class_names is None else class_names)
    classes = [class_index(name, class_names, report.source) for name in SHAPE_NAMES]
    records = []
    for index in range(num_images):
        # crc32, not hash(): the latter differs between processes.
        key = (dataset_seed, zlib.crc32(split.encode()), index)
        layout = draw_layout(key, height, width, objects)
        boxes = [shape_box(shape, height, width) for shape in layout]
        labels = [classes[shape["kind"]] for shape in layout]
        records.append(
            make_record(
                functools.partial(draw_image, key, height, width, layout),
                f"shapes/{split}/{index:06d}",
                (boxes, labels, [0] * len(boxes), None),
                report,
                image_id=index,
                size=(height, width),
            )
        )
    return Annotations(records, class_names, report)


def draw_layout(key, height, width, objects):
    """Draws where the shapes of a picture are.

    Args:
        key: tuple of ints, the seed of the picture.
        height, width: size of the picture in pixels.
        objects: smallest and largest number of shapes.

    Returns:
        List of dictionaries `kind`, `polygon` (x, y pairs in pixels); later ones lie in front.
    """
    random = np.random.default_rng([*key, 0])
    count = random.integers(objects[0], objects[1] + 1)
    layout, masks = [], []
    for _ in range(count * ATTEMPTS):
        if len(layout) == count:
            break
        shape = _draw_shape(random, height, width)
        mask = _coarse_mask(shape, height, width)
        inside = mask.sum()
        # Partly outside the picture is fine, mostly outside is not.
        if inside < 0.6 * shape["area"] or inside < 4:
            continue
        remaining = [np.logical_and(old, ~mask) for old, _ in masks]
        if any(r.sum() < MIN_VISIBLE * area for r, (_, area) in zip(remaining, masks)):
            continue
        masks = [(r, area) for r, (_, area) in zip(remaining, masks)] + [(mask, inside)]
        layout.append(shape)
    return layout


def shape_box(shape, height, width):
    """Returns the tight box, xyxy in pixels, of a shape inside the picture.

    The box covers the whole shape, also what others hide, but not what lies out of the picture.
    """
    mask = _mask(shape, height * SUPERSAMPLING, width * SUPERSAMPLING, SUPERSAMPLING)
    left, top, right, bottom = mask.getbbox()
    return [side / SUPERSAMPLING for side in (left, top, right, bottom)]


def draw_image(key, height, width, layout):
    """Paints the picture of a layout: `uint8` (height, width, 3)."""
    random = np.random.default_rng([*key, 1])
    image = _paint_clutter(random, _texture(random, height, width))
    for shape in layout:
        _paint_shape(random, image, shape)
    noise = random.standard_normal(image.shape, "float32") * random.uniform(2, 8)
    return np.clip(np.rint(image + noise), 0, 255).astype("uint8")


def _paint_shape(random, image, shape):
    """Paints a textured shape over a float32 picture, in place and within its box only."""
    height, width = image.shape[:2]
    left, top, right, bottom = shape_box(shape, height, width)
    rows = slice(math.floor(top), math.ceil(bottom))
    columns = slice(math.floor(left), math.ceil(right))
    alpha = coverage(shape, height, width)[rows, columns]
    below = image[rows, columns]
    texture = _texture(random, *below.shape[:2], contrast_to=below)
    image[rows, columns] = below + (texture - below) * alpha


def _draw_shape(random, height, width):
    """Returns kind, polygon and area of a random shape."""
    kind = int(random.integers(len(SHAPE_NAMES)))
    shortest = min(height, width)
    # Uniform in the logarithm: as many small shapes as large ones.
    radius = math.exp(random.uniform(math.log(0.1), math.log(0.25))) * shortest
    centre = random.uniform((0, 0), (width, height))
    corners = (48, 4, 3)[kind]
    # Squares and triangles stand on a side, a little tilted: the classes are learned in minutes.
    turn = (math.pi / 4 if corners == 4 else -math.pi / 2) + random.uniform(-TILT, TILT)
    angles = turn + np.arange(corners) * 2 * math.pi / corners
    polygon = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    area = 0.5 * corners * radius**2 * math.sin(2 * math.pi / corners)
    return {"kind": kind, "polygon": polygon, "area": area}


def _mask(shape, height, width, scale):
    """Image of 0 and 255, drawn at `scale` times the size."""
    mask = Image.new("L", (width, height))
    # PIL's pixel centers have whole coordinates.
    corners = shape["polygon"] * scale - 0.5
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in corners], fill=255)
    return mask


def _coarse_mask(shape, height, width):
    return np.asarray(_mask(shape, height, width, 1)) > 0


def coverage(shape, height, width):
    """Share of each pixel that the shape covers, float (height, width, 1)."""
    mask = _mask(shape, height * SUPERSAMPLING, width * SUPERSAMPLING, SUPERSAMPLING)
    return (np.asarray(mask.reduce(SUPERSAMPLING), "float32") / 255)[..., None]


def _texture(random, height, width, contrast_to=None):
    """A random pattern of two colors, float32 (height, width, 3).

    Args:
        contrast_to: picture from whose mean color the pattern has to differ.
    """
    first, second = _two_colours(random)
    if contrast_to is not None:
        mean = contrast_to.mean(axis=(0, 1))
        while np.abs((first + second) / 2 - mean).max() < 50:
            first, second = _two_colours(random)
    y, x = np.mgrid[:height, :width].astype("float32")
    angle, period = random.uniform(0, math.pi), random.uniform(4, 24)
    along = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period)
    across = (y * math.cos(angle) - x * math.sin(angle)) * (2 * math.pi / period)
    pattern = random.integers(4)
    if pattern == 0:  # stripes
        weight = np.sin(along) > 0
    elif pattern == 1:  # checks
        weight = np.sin(along) * np.sin(across) > 0
    elif pattern == 2:  # dots
        weight = np.cos(along) + np.cos(across) > 0.8
    else:  # clouds
        grid = random.integers(0, 256, (8, 8)).astype("uint8")
        weight = np.asarray(Image.fromarray(grid).resize((width, height), Image.BICUBIC)) / 255
    weight = np.asarray(weight, "float32")[..., None]
    return (first + (second - first) * weight).astype("float32")


def _two_colours(random):
    """Two colors near each other: textures are fainter than the edges between shapes."""
    first, other = random.uniform(0, 255, (2, 3))
    return first, first + (other - first) * 0.3


def _paint_clutter(random, image):
    """Returns the picture with thin lines and small specks that belong to no class."""
    height, width = image.shape[:2]
    canvas = Image.fromarray(np.rint(image).astype("uint8"))
    draw = ImageDraw.Draw(canvas)
    for _ in range(random.integers(4, 12)):
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        start = random.uniform((0, 0), (width, height))
        if random.random() < 0.7:
            length = random.uniform(0.1, 0.6) * max(height, width)
            angle = random.uniform(0, 2 * math.pi)
            end = start + length * np.array([math.cos(angle), math.sin(angle)])
            draw.line([*start, *end], fill=colour, width=int(random.integers(1, 4)))
        else:
            half = random.uniform(1, 0.012 * min(height, width) + 1, 2)
            draw.rectangle([*(start - half), *(start + half)], fill=colour)
    return np.array(canvas, "float32")


def _check_size(size):
    height, width = (size, size) if isinstance(size, (int, np.integer)) else size
    if min(height, width) < 32:
        raise ValueError(f"`size` must be at least 32 pixels. Received: size={size!r}")
    return int(height), int(width)


def _check_objects(objects):
    low, high = objects
    if not 1 <= low <= high:
        raise ValueError(
            f"`objects` must be (smallest, largest) number of shapes, from 1. Received: {objects!r}"
        )
    return int(low), int(high)
