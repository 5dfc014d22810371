"""Reading and resizing pictures with PIL and numpy alone.

In: a path, encoded bytes, a PIL image or an array of any common pixel type. Out: RGB `uint8`
arrays (H, W, 3). `model.detect` uses this module without tensorflow, the tf.data pipelines use it
to decode; `resize_image` equals the pipeline's `tf.image.resize` pixel for pixel. Exported
detectors decode the same files to the same pixels in a graph (`serving/decoding.py`).
"""

import io
import math
import os

import numpy as np
from PIL import Image, UnidentifiedImageError

# The mean of ImageNet in RGB. Padding has this color: the model's normalization makes it zero.
MEAN_COLOUR = (123.675, 116.28, 103.53)

# Larger pictures are refused before they are decoded: a file of some kilobytes can declare any
# size. Raise it for files that you trust.
MAX_PIXELS = 64_000_000

EXIF_ORIENTATION_TAG = 0x0112
# Resizing with a cubic filter overshoots 0..255 a little; 16-bit or normalized pixels are far off.
PIXEL_RANGE = (-64.0, 320.0)
# Pixels looked at in each direction of an image: its range shows in few of them.
PIXEL_SAMPLES = 64
# What turns the stored pixels upright (TIFF 6.0, Orientation); 1 is upright already.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source, *, exif=True, name=None):
    """Reads one picture as RGB.

    Args:
        source: path, encoded bytes, PIL image, or array of shape (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4). Arrays of `uint16` are scaled to 8 bits; float arrays are taken as 0..255.
        exif: whether to turn the picture upright as its orientation says: that of its EXIF, else
            of its XMP. An orientation that is not one whole number of 1..8 is not followed.
        name: what to call the picture in error messages; the path by default.

    Returns:
        `uint8` array (H, W, 3). Gray is repeated, 16 bits become 8. Transparency is dropped: a
        pixel has the color that the file stores for it, however transparent it is. Of animations
        the first frame is read.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the content is not a picture, is cut short, or has more than
            `keras_gflv2.images.MAX_PIXELS` pixels; the message names the file.
    """
    name = name or describe_source(source)
    if isinstance(source, np.ndarray) or (hasattr(source, "__array__") and not _is_pil(source)):
        return _array_to_rgb(np.asarray(source), name)
    image = source if _is_pil(source) else _open(source, name)
    try:
        _check_pixels(image, name)
        return _pil_to_rgb(image, exif, name)
    finally:
        if image is not source:
            image.close()


def read_image_size(source, name=None):
    """Reads the size of a picture from its header without decoding it.

    Args:
        source: path or encoded bytes.
        name: what to call the picture in error messages.

    Returns:
        `(height, width, orientation)`: the stored size in pixels and the orientation, 1..8, that
        `read_image` follows. The size may be more than `read_image` accepts.

    Raises:
        FileNotFoundError: the path does not exist.
        ValueError: the content is not a picture; the message names the file.
    """
    with _open(source, name or describe_source(source)) as image:
        width, height = image.size
        # PIL may have to decode a PNG to the end to find its EXIF.
        orientation = _orientation(image) if width * height <= MAX_PIXELS else 1
    return height, width, orientation


def pixel_statistics(images):
    """Least, greatest, and whether any lies between 0 and 1, of a sample of each image's pixels.

    Args:
        images: array (..., H, W, 3).

    Returns:
        Three arrays (...), for `pixel_problem`.
    """
    step_y, step_x = (max(side // PIXEL_SAMPLES, 1) for side in images.shape[-3:-1])
    sample = images[..., ::step_y, ::step_x, :].astype("float32")
    axes = (-3, -2, -1)
    has_fractions = np.any((sample > 0) & (sample < 1), axis=axes)
    return sample.min(axis=axes), sample.max(axis=axes), has_fractions


def pixel_problem(low, high, has_fractions):
    """What tells that pixels are not RGB in 0..255, as the end of a sentence; None if nothing does.

    Args:
        low, high: the least and the greatest pixel of each image, (B,) or ().
        has_fractions: whether any lies between 0 and 1, likewise. A black image of whole numbers
            is nothing unusual.
    """
    low, high = np.atleast_1d(low), np.atleast_1d(high)
    is_scaled = (high <= 1) & np.atleast_1d(has_fractions)
    is_normalized = (low <= -0.5) & (high < 16)
    wrong = is_scaled | is_normalized | (low < PIXEL_RANGE[0]) | (high > PIXEL_RANGE[1])
    wrong |= ~(np.isfinite(low) & np.isfinite(high))
    if not wrong.any():
        return None
    first = int(np.argmax(wrong))
    return (
        f"has pixels of {low[first]:.4g}..{high[first]:.4g}, but detectors expect RGB in 0..255 "
        "and normalize it themselves. Multiply images of 0..1 by 255, and leave out other "
        "preprocessing."
    )


def describe_source(source):
    """Returns a short name of an image source for messages."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, (bytes, bytearray)):
        return f"<{len(source)} bytes>"
    return f"<{type(source).__name__}>"


def resize_shape(size, image_size):
    """Returns the size of a picture after resizing with its ratio kept.

    Args:
        size: `(height, width)` of the picture in pixels.
        image_size: `(short side, longest long side)` in pixels: the picture is scaled until its
            short side is the first or its long side is the second, whichever comes first.

    Returns:
        `(height, width)` as ints, at least 1.
    """
    height, width = (int(side) for side in size)
    scale = _resize_scale(height, width, *image_size)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_shapes(sizes, image_size):
    """The same in a TensorFlow graph: int32 (..., 2) from int32 (..., 2).

    Args:
        sizes: heights and widths in pixels.
        image_size: pair as in `resize_shape`, or a tensor (2,).
    """
    import tensorflow as tf

    # float64 as in Python: float32 would round some sides the other way.
    sizes = tf.cast(sizes, "float64")
    sides = tf.unstack(sizes, axis=-1) + tf.unstack(tf.cast(image_size, "float64"))
    scale = _resize_scale(*sides, tf.minimum, tf.maximum)
    return tf.maximum(tf.cast(sizes * scale[..., None] + 0.5, "int32"), 1)


def _resize_scale(height, width, short_side, longest, minimum=min, maximum=max):
    return minimum(longest / maximum(height, width), short_side / minimum(height, width))


def resize_image(image, size):
    """Resizes with half-pixel centers, bilinear, no antialiasing: cv2's INTER_LINEAR.

    The arithmetic is float32 in the order of `tf.image.resize`, so both give the same pixels.

    Args:
        image: array (H, W, C), `uint8` or float of 0..255.
        size: `(height, width)` of the result in pixels.

    Returns:
        float32 array (height, width, C) of whole numbers; the input itself, as float32, if it has
        that size already.
    """
    height, width = size
    image = np.asarray(image)
    if image.shape[:2] == (height, width):
        return image.astype("float32")
    top, bottom, row_weight = _interpolation(image.shape[0], height)
    left, right, column_weight = _interpolation(image.shape[1], width)
    column_weight = column_weight[None, :, None]
    rows = {}
    for key, row in (("top", top), ("bottom", bottom)):
        lines = image[row].astype("float32")
        start = lines[:, left]
        rows[key] = start + (lines[:, right] - start) * column_weight
    blended = rows["top"] + (rows["bottom"] - rows["top"]) * row_weight[:, None, None]
    return np.floor(blended + np.float32(0.5))


def _interpolation(length, new_length):
    """Returns the two neighbors of each output position, and the weight of the second."""
    scale = np.float32(length) / np.float32(new_length)
    positions = (np.arange(new_length, dtype="float32") + np.float32(0.5)) * scale
    positions = positions - np.float32(0.5)
    floor = np.floor(positions)
    lower = np.maximum(floor, 0).astype("int64")
    upper = np.minimum(np.ceil(positions), length - 1).astype("int64")
    return lower, upper, (positions - floor).astype("float32")


def _is_pil(source):
    return isinstance(source, Image.Image)


def _open(source, name):
    """Opens a path or bytes with PIL; errors name the file."""
    if isinstance(source, (bytes, bytearray)):
        source = io.BytesIO(source)
    elif not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "An image must be a path, encoded bytes, a PIL image or an array. "
            f"Received: {type(source).__name__}"
        )
    if MAX_PIXELS > (Image.MAX_IMAGE_PIXELS or math.inf):  # raised: PIL has a limit of its own
        Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    try:
        return Image.open(source)
    except FileNotFoundError:
        raise FileNotFoundError(f"The image file {name} does not exist.") from None
    except IsADirectoryError:
        raise ValueError(f"{name} is a folder. Pass the path of an image file.") from None
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name} is not an image that PIL can read: its content is of no known format."
        ) from error
    except Exception as error:  # PIL raises errors of many types for damaged files.
        raise ValueError(f"{name} is not an image that PIL can read: {error}") from error


def _orientation(image):
    """The orientation 1..8 of a PIL image by its EXIF, else by its XMP."""
    try:
        value = image.getexif().get(EXIF_ORIENTATION_TAG, 1)
    except Exception:  # A broken EXIF block does not make the pixels unreadable.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _check_pixels(image, name):
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"The image {name} has {width} x {height} pixels, more than the {MAX_PIXELS} that are "
            "accepted. Make it smaller, or raise keras_gflv2.images.MAX_PIXELS if you trust it."
        )


def _pil_to_rgb(image, exif, name):
    try:
        image.load()  # The EXIF of a PNG may stand after its pixels.
    except Exception as error:
        raise ValueError(
            f"The image {name} cannot be decoded: {error}. The file is damaged or cut short; "
            "replace it or leave it out."
        ) from error
    turn = _UPRIGHT.get(_orientation(image)) if exif else None
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I") or image.mode == "F":
        # PIL's own conversion clips at 255: a 16-bit picture would be all white.
        return _array_to_rgb(_deep_grey(np.asarray(image), image.mode), name)
    if image.mode == "CMYK":
        return _cmyk_to_rgb(np.asarray(image))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    # np.array copies: the result outlives the file.
    return np.array(image.convert("RGB"))


def _cmyk_to_rgb(inks):
    """Paper that shines through all inks (H, W, 4), rounded down as TensorFlow rounds it."""
    paper = (255 - inks).astype("uint16")
    return (paper[..., :3] * paper[..., 3:] // 255).astype("uint8")


def _deep_grey(pixels, mode):
    """Brings PIL's deep gray modes to values that `_array_to_rgb` understands."""
    if mode == "F":  # Float TIFF files hold either 0..1 or 0..255.
        pixels = np.nan_to_num(pixels)
        return pixels * 255 if pixels.max(initial=0) <= 1 else pixels
    # Mode "I" is how PIL hands out 16-bit files that it cannot hold otherwise.
    return np.clip(pixels, 0, 65535).astype("uint16")


def _array_to_rgb(array, name):
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(
            "An image array must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). "
            f"Received for {name}: shape={array.shape}"
        )
    if array.dtype == np.uint16:
        array = np.rint(array / 257.0)  # 65535 -> 255
    elif array.dtype == bool:
        array = array * 255
    elif array.dtype != np.uint8:
        if not np.isfinite(array).all():
            raise ValueError(f"The image array {name} contains values that are not finite.")
        problem = pixel_problem(*pixel_statistics(array))
        if problem:  # rounded, an image of 0..1 would be black
            raise ValueError(f"The image array {name} {problem}")
        array = np.clip(np.rint(array), 0, 255)
    array = array[..., :3].astype("uint8")
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))
