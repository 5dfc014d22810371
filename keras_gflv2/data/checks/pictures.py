"""One pass over the pictures: what the checks need of each, and which cannot be read."""

import concurrent.futures
import dataclasses
import os

import numpy as np
from PIL import Image

from keras_gflv2.data.checks.alignment import ALIGNMENTS, Edges
from keras_gflv2.data.checks.class_order import features_of
from keras_gflv2.images import read_image

THUMBNAIL = 32  # pixels
LONGEST = 320  # pixels at which boxes are compared with what is in the picture
MAX_BOXES = 64  # of a picture that are looked at
KEPT_EDGES = 120  # pictures whose edges are kept, to try the boxes of other pictures on them


@dataclasses.dataclass
class Looks:
    """What is kept of a picture.

    Attributes:
        thumbnail: uint8 (32, 32), gray.
        color: float (3,), mean RGB.
        short_side: of the picture, in pixels.
        features: float (N, F), see `features_of`, with mean RGB and contrast of each box.
        fits: float (len(ALIGNMENTS), N), how well the edges of boxes fit, see `alignment`.
        edges: the `Edges`, for some pictures; else None.
    """

    thumbnail: np.ndarray
    color: np.ndarray
    short_side: int
    features: np.ndarray
    fits: np.ndarray
    edges: object = None


def look_at(parts, progress=None):
    """Reads every picture once.

    Args:
        parts: {split: `Annotations`}.
        progress: function of the number of pictures read so far.

    Returns:
        Tuple of {split: list of `Looks`, None where a picture cannot be read} and {split: {index:
        message}} of those.
    """
    looks, broken, done = {}, {}, 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for split, annotations in parts.items():
            records = annotations.records
            every = max(len(records) // KEPT_EDGES, 1)
            jobs = pool.map(_look, records, (i % every == 0 for i in range(len(records))))
            looks[split], broken[split] = [], {}
            for index, result in enumerate(jobs):
                if isinstance(result, str):
                    broken[split][index] = result
                looks[split].append(None if isinstance(result, str) else result)
                done += 1
                if progress is not None:
                    progress(done)
    return looks, broken


def _look(record, keeps_edges):
    """The `Looks` of a record's picture, or the message of its error."""
    try:
        image = record.image() if callable(record.image) else record.image
        image = read_image(image, exif=record.exif, name=record.file)
    except (OSError, ValueError) as error:
        return str(error)
    picture = Image.fromarray(image)
    thumbnail = picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).convert("L")
    scale = min(LONGEST / max(picture.size), 1.0)
    size = [max(round(side * scale), 8) for side in picture.size]
    small = picture.resize(size, Image.Resampling.BOX)
    ratio = np.tile(np.array(size, "float64") / picture.size, 2)
    boxes = record.boxes[:MAX_BOXES].astype("float64") * ratio
    pixels = np.asarray(small, "float32")
    edges = Edges(np.asarray(small.convert("L"), "float32"))
    fits = np.stack([edges.fit(boxes, name) for name in ALIGNMENTS])
    features = np.concatenate([features_of(record)[:MAX_BOXES], _colors(pixels, boxes)], axis=-1)
    return Looks(
        np.asarray(thumbnail),
        pixels.mean((0, 1)),
        min(picture.size),
        features.astype("float32"),
        fits.astype("float32"),
        edges if keeps_edges else None,
    )


def _colors(pixels, boxes):
    """Mean RGB of the middle of each box, and its contrast: (N, 4)."""
    found = np.zeros((len(boxes), 4))
    for row, (left, top, right, bottom) in enumerate(boxes):
        x, y = (right - left) / 4, (bottom - top) / 4
        part = pixels[
            int(top + y) : max(int(bottom - y), int(top + y) + 1),
            int(left + x) : max(int(right - x), int(left + x) + 1),
        ]
        if part.size:
            found[row, :3] = part.mean((0, 1))
            found[row, 3] = part.std()
    return found
