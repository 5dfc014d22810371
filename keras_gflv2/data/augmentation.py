"""Random changes of an image and its boxes, as tf functions of a seed.

An example is a dictionary: `image` (h, w, 3), `boxes` (N, 4) xyxy in pixels of that image,
`classes`, `ignored`, `areas` (N,); class -1 is padding. Each function returns a new example. All
randomness is stateless: the same seed gives the same example, in whatever thread.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_gflv2.images import MEAN_COLOUR

PRESETS = {
    "none": {"horizontal_flip": 0.0},
    "light": {"scale": (0.8, 1.25), "brightness": 0.2, "contrast": 0.2},
    "strong": {
        **{"scale": (0.5, 1.5), "translate": 0.1, "brightness": 0.3, "contrast": 0.3},
        **{"saturation": 0.5, "hue": 0.02, "mosaic": 0.5, "mixup": 0.1, "erase": 0.2},
    },
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What `train=True` changes at random.

    ```python
    augmentation = keras_gflv2.data.Augmentation(
        vertical_flip=0.5, rotate90=0.5, scale=(0.7, 1.4), brightness=0.2, mosaic=0.5
    )
    train_ds = keras_gflv2.data.load_voc("bccd", "train", train=True, augmentation=augmentation)
    ```

    `Augmentation.preset("light")` is one of a few that were chosen on BCCD; see docs/training.md.

    Args:
        horizontal_flip: probability of a mirror image.
        vertical_flip: probability of turning the image upside down.
        rotate90: probability that a whole batch is turned by 90 degrees: its canvas is transposed,
            so twice as many canvas sizes occur. Flips make the other quarter turns.
        scale: range of the factor by which the image is scaled, then cropped or padded to its own
            size; uniform in the logarithm.
        translate: largest shift as a fraction of height and width.
        brightness: largest relative change, 0..1; the image is multiplied by 1 +- it.
        contrast: largest relative change of the distance to the mean gray.
        saturation: largest relative change of the distance to the pixel's gray.
        hue: largest rotation of the hue in turns, 0..0.5.
        mosaic: probability that an image is put together from parts of 4 images, each at its scale.
        mosaic_epochs: number of epochs with mosaics and mixed images; those after them show whole
            images, as they are in use. None for all.
        min_visible: a box of which less than this part of its area remains in view is dropped.
        mixup: probability that an image that is no mosaic is mixed with another one: each pixel is
            a mean of both, and the boxes of both stay (Zhang et al., 2019, for detection).
        erase: probability that a rectangle of 2 to 20% of the image is painted over with the color
            of padding (random erasing, Zhong et al., 2020).
    """

    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    rotate90: float = 0.0
    scale: tuple = (1.0, 1.0)
    translate: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    mosaic: float = 0.0
    min_visible: float = 0.3
    mosaic_epochs: int | None = None
    mixup: float = 0.0
    erase: float = 0.0

    @classmethod
    def preset(cls, name, **changes):
        """One of `PRESETS` by its name, some of its arguments replaced.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in PRESETS:
            raise ValueError(f"`name` must be one of {list(PRESETS)}. Received: {name!r}")
        return cls(**{**PRESETS[name], **changes})

    def __post_init__(self):
        names = [field.name for field in dataclasses.fields(self)]
        limits = {name: 1.0 for name in names if name not in ("scale", "mosaic_epochs")}
        limits["hue"] = 0.5
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise ValueError(f"`{name}` must be in 0..{limit:g}. Received: {name}={value!r}")
        if self.mosaic_epochs is not None and self.mosaic_epochs < 0:
            raise ValueError(
                "`mosaic_epochs` must be None or a number of epochs. "
                f"Received: mosaic_epochs={self.mosaic_epochs!r}"
            )
        try:
            low, high = (float(factor) for factor in self.scale)
        except (TypeError, ValueError):
            low = high = 0.0
        if not 0 < low <= high:
            raise ValueError(
                "`scale` must be a range of positive factors such as (0.8, 1.25). "
                f"Received: scale={self.scale!r}"
            )

    @property
    def moves(self):
        """Whether the image is scaled or shifted inside its frame."""
        return tuple(self.scale) != (1.0, 1.0) or self.translate > 0

    @property
    def mixes(self):
        """Whether an example may be made of several images."""
        return self.mosaic > 0 or self.mixup > 0

    @property
    def colours(self):
        """Whether colors change."""
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0


def augment(example, frame, seed, augmentation, padding_color=MEAN_COLOUR):
    """Resizes an example to a frame, scales, shifts and flips it.

    What mixes images, the colors, erasing and the quarter turn come after, for they concern the
    result.

    Args:
        example: dictionary as above, image of any size.
        frame: int32 (2,): height and width of the result, the image resized with its ratio kept.
        seed: int32 (2,).
        augmentation: an `Augmentation`.
        padding_color: RGB of what the image does not cover.

    Returns:
        Example with a float32 image of the frame's size.
    """
    seeds = tf.unstack(tf.random.split(seed, 3))
    if augmentation.moves:
        example = scale_and_translate(example, frame, seeds[0], augmentation, padding_color)
    else:
        example = resize(example, frame)
    if augmentation.horizontal_flip:
        example = maybe(augmentation.horizontal_flip, seeds[1], flip_horizontal, example)
    if augmentation.vertical_flip:
        example = maybe(augmentation.vertical_flip, seeds[2], flip_vertical, example)
    return example


def maybe(probability, seed, function, example):
    """Applies `function` to the example with a probability."""
    draw = tf.random.stateless_uniform([], seed)
    return tf.cond(draw < probability, lambda: function(example), lambda: example)


def resize(example, size):
    """Resizes to `size` (2,) pixels with half-pixel centers, bilinear, to whole values 0..255."""
    old = tf.shape(example["image"])[:2]
    image = tf.cond(
        tf.reduce_all(old == size),
        lambda: tf.cast(example["image"], "float32"),
        lambda: tf.floor(tf.image.resize(example["image"], size, antialias=False) + 0.5),
    )
    # Each side has its own ratio: the new size is rounded to whole pixels.
    ratio = tf.cast(size, "float32") / tf.cast(old, "float32")
    boxes = example["boxes"] * tf.stack([ratio[1], ratio[0], ratio[1], ratio[0]])
    return example | {"image": tf.ensure_shape(image, [None, None, 3]), "boxes": boxes}


def flip_horizontal(example):
    """Mirrors left and right."""
    width = tf.cast(tf.shape(example["image"])[1], "float32")
    x1, y1, x2, y2 = tf.unstack(example["boxes"], axis=-1)
    boxes = tf.stack([width - x2, y1, width - x1, y2], axis=-1)
    return example | {"image": tf.reverse(example["image"], [1]), "boxes": boxes}


def flip_vertical(example):
    """Mirrors top and bottom."""
    height = tf.cast(tf.shape(example["image"])[0], "float32")
    x1, y1, x2, y2 = tf.unstack(example["boxes"], axis=-1)
    boxes = tf.stack([x1, height - y2, x2, height - y1], axis=-1)
    return example | {"image": tf.reverse(example["image"], [0]), "boxes": boxes}


def quarter_turn(example):
    """Turns by 90 degrees counter-clockwise."""
    height, width, channels = tf.unstack(tf.shape(example["image"]))
    rows = tf.range(height)[None, :]
    columns = tf.range(width)[::-1, None]
    # A gather of whole pixels takes a fraction of the time of tf.transpose, which moves channels.
    pixels = tf.reshape(example["image"], [-1, channels])  # (h * w, 3)
    image = tf.gather(pixels, rows * width + columns)  # (w, h, 3)
    x1, y1, x2, y2 = tf.unstack(example["boxes"], axis=-1)
    right = tf.cast(width, "float32")
    boxes = tf.stack([y1, right - x2, y2, right - x1], axis=-1)
    return example | {"image": tf.ensure_shape(image, [None, None, 3]), "boxes": boxes}


def scale_and_translate(example, frame, seed, augmentation, padding_color):
    """Scales the image by a random factor and cuts a window of the frame's size out of it.

    A larger image is cropped at a random place; a smaller one is put at a random place on the
    padding. The shift comes on top.
    """
    factor_seed, place_seed, shift_seed = tf.unstack(tf.random.split(seed, 3))
    low, high = augmentation.scale
    factor = tf.exp(
        tf.random.stateless_uniform(
            [], factor_seed, tf.math.log(float(low)), tf.math.log(float(high))
        )
        if low < high
        else tf.math.log(float(low))
    )
    frame_size = tf.cast(frame, "float32")
    size = tf.maximum(tf.cast(tf.round(frame_size * factor), "int32"), 1)
    free = frame_size - tf.cast(size, "float32")
    offset = tf.random.stateless_uniform([2], place_seed) * free
    shift = tf.random.stateless_uniform([2], shift_seed, -1.0, 1.0) * augmentation.translate
    offset = tf.cast(tf.round(offset + shift * frame_size), "int32")
    return place(resize(example, size), frame, offset, augmentation.min_visible, padding_color)


def place(example, frame, offset, min_visible=0.0, padding_color=MEAN_COLOUR):
    """Puts an image on a frame of one color, at an offset that may be negative.

    Args:
        example: dictionary as above.
        frame: int32 (2,): height and width of the result.
        offset: int32 (2,): row and column of the image's corner within the frame.
        min_visible: boxes with a smaller visible part become padding; an ignored region stays as
            long as anything of it is visible, for what it hides is still not background.
        padding_color: RGB of the frame.

    Returns:
        Example with a float32 image of the frame's size and boxes clipped to it.
    """
    image = paste(tf.cast(example["image"], "float32"), frame, offset, padding_color)
    shift = tf.cast(offset, "float32")
    boxes = example["boxes"] + tf.stack([shift[1], shift[0], shift[1], shift[0]])
    size = tf.cast(frame, "float32")
    limits = tf.stack([size[1], size[0], size[1], size[0]])
    visible = tf.clip_by_value(boxes, 0.0, limits)
    part = area(visible) / tf.maximum(area(boxes), 1e-6)
    kept = (area(visible) > 0) & ((part >= min_visible) | (example["ignored"] == 1))
    classes = tf.where(kept, example["classes"], -1)
    return example | {"image": image, "boxes": visible, "classes": classes}


def paste(image, frame, offset, padding_color):
    """Crops and pads an image with one color: its corner comes to `offset` of the frame."""
    size = tf.shape(image)[:2]
    start = tf.clip_by_value(-offset, 0, size)
    before = tf.clip_by_value(offset, 0, frame)
    length = tf.maximum(tf.minimum(size - start, frame - before), 0)
    image = image[start[0] : start[0] + length[0], start[1] : start[1] + length[1]]
    after = frame - before - length
    # Concatenation copies pixels exactly; subtracting the color, padding with zero and adding it
    # again would not.
    color = tf.constant(padding_color, "float32")
    left = tf.broadcast_to(color, [length[0], before[1], 3])
    right = tf.broadcast_to(color, [length[0], after[1], 3])
    image = tf.concat([left, image, right], axis=1)
    top = tf.broadcast_to(color, [before[0], frame[1], 3])
    bottom = tf.broadcast_to(color, [after[0], frame[1], 3])
    return tf.concat([top, image, bottom], axis=0)


def area(boxes):
    """Areas of xyxy boxes, (N,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def jitter_colour(image, seed, augmentation):
    """Changes brightness, contrast, saturation and hue of an image of 0..255.

    All four are linear in the color, so together they are one 3x3 matrix and an offset.
    """
    seeds = tf.unstack(tf.random.split(seed, 4))

    def draw(i, strength):
        return tf.random.stateless_uniform([], seeds[i], -strength, strength)

    luma = tf.constant(YIQ_FROM_RGB[0], "float32")
    saturation = 1.0 + draw(2, augmentation.saturation)
    matrix = saturation * tf.eye(3) + (1.0 - saturation) * luma[None, :]
    if augmentation.hue:
        matrix = tf.matmul(_hue_matrix(draw(3, augmentation.hue)), matrix)
    brightness = 1.0 + draw(0, augmentation.brightness)
    contrast = 1.0 + draw(1, augmentation.contrast)
    grey = tf.reduce_sum(tf.reduce_mean(image, axis=(0, 1)) * luma) * brightness
    # (h * w, 3) x (3, 3)
    pixels = tf.matmul(tf.reshape(image, [-1, 3]), brightness * contrast * matrix, transpose_b=True)
    pixels = tf.clip_by_value(pixels + (1.0 - contrast) * grey, 0.0, 255.0)
    return tf.reshape(pixels, tf.shape(image))


# The standard luminance weights and the two chrominance axes in whose plane hue is an angle.
YIQ_FROM_RGB = np.array(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], "float64"
)
RGB_FROM_YIQ = np.linalg.inv(YIQ_FROM_RGB)


def _hue_matrix(turns):
    """Matrix (3, 3) on RGB that rotates the hue by a part of a turn and keeps the luminance."""
    sine, cosine = tf.sin(2 * np.pi * turns), tf.cos(2 * np.pi * turns)
    rotation = tf.reshape(tf.stack([1, 0, 0, 0, cosine, -sine, 0, sine, cosine]), [3, 3])
    to_rgb, to_yiq = (tf.constant(matrix, "float32") for matrix in (RGB_FROM_YIQ, YIQ_FROM_RGB))
    return tf.matmul(to_rgb, tf.matmul(rotation, to_yiq))


INSTANCE_KEYS = ("boxes", "classes", "ignored", "areas")
PADDING_VALUES = {"boxes": 0.0, "classes": -1, "ignored": 0, "areas": 0.0}


def compact(example, max_boxes):
    """Moves padding behind the objects, clears it, and makes the number of boxes `max_boxes`."""
    padding = example["classes"] < 0
    order = tf.argsort(tf.cast(padding, "int32"), stable=True)[:max_boxes]
    result = {"image": example["image"]}
    for key in INSTANCE_KEYS:
        values = tf.gather(example[key], order)
        empty = tf.gather(padding, order)
        empty = empty[:, None] if key == "boxes" else empty
        values = tf.where(empty, tf.cast(PADDING_VALUES[key], values.dtype), values)
        missing = max_boxes - tf.shape(values)[0]
        widths = [[0, missing], [0, 0]] if key == "boxes" else [[0, missing]]
        values = tf.pad(values, widths, constant_values=PADDING_VALUES[key])
        result[key] = values
    return result
