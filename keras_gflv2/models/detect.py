"""Images of any sizes in, their detections in their own pixels out."""

import numpy as np

from keras_gflv2.canvases import CanvasQueue
from keras_gflv2.contract import class_names_of
from keras_gflv2.detections import Detections
from keras_gflv2.images import read_image, resize_image, resize_shape
from keras_gflv2.intervals import check_coverage, conformal_quantile
from keras_gflv2.tiles import merge_tiles, tile_size, tiles_of


def detect(
    model, predict, plan, images, score_threshold, image_size, batch_size, coverage, tile, overlap
):
    """What `DenseDetector.detect` does; see there.

    Args:
        model: the detector: its sizes, names and box format.
        predict: function that finds the detections of a batch.
        plan: a `CanvasPlan` for images that share canvases, or None.
        images, score_threshold, image_size, batch_size, coverage, tile, overlap: as in
            `DenseDetector.detect`.
    """
    if not isinstance(images, (list, tuple)):
        images = [images]
    image_size = image_size or model.image_size
    queue = CanvasQueue(model, batch_size, predict, plan, image_size)
    tiles, scales = [], []  # of each image; of each tile
    for source in images:
        image = read_image(source)
        tiles.append(tiles_of(image.shape[:2], tile or image.shape[:2], overlap))
        for one in tiles[-1]:
            pixels = one.cut_from(image)
            resized = resize_image(pixels, _resized_shape(pixels, tile, image_size))
            scale_y, scale_x = np.divide(pixels.shape[:2], resized.shape[:2])
            scales.append(np.float32([scale_x, scale_y, scale_x, scale_y]))
            queue.add(resized)
    found = map(_to_original, queue.finish(), scales)
    return [
        _finished(model, _merged(image_tiles, found), score_threshold, coverage)
        for image_tiles in tiles
    ]


def _resized_shape(pixels, tile, image_size):
    """Height and width at which pixels are looked at: of a tile at the scale of a whole one."""
    if not tile:
        return resize_shape(pixels.shape[:2], image_size)
    size = tile_size(tile)
    scales = np.divide(resize_shape(size, image_size), size)
    return tuple(max(round(side * scale), 1) for side, scale in zip(pixels.shape, scales))


def check_calibrated(model, coverage):
    """Raises ValueError if a detector cannot give intervals of a coverage."""
    check_coverage(coverage)
    if model.calibration is None:
        what = "keras-gflv2 calibrate, or evaluation.calibrate(model, dataset), makes one"
        if not model.representation.has_spread:
            what = "a detector without distributions cannot have one"
        raise ValueError(f"`coverage` needs a calibration of the uncertainties: {what}.")
    conformal_quantile(coverage, model.calibration.get_config())


def _to_original(found, scale):
    """Detections in resized pixels -> in those before."""
    sides = [name for name in ("boxes", "uncertainties") if name in found]
    return {**found, **{name: found[name].astype("float32") * scale for name in sides}}


def _merged(tiles, found):
    """Takes the detections of the tiles of an image from an iterator: those of the image."""
    of_tiles = [next(found) for _ in tiles]
    return of_tiles[0] if len(tiles) == 1 else merge_tiles(tiles, of_tiles)


def _finished(model, found, score_threshold, coverage):
    """Those above the threshold, with the names of their classes and their intervals."""
    found = {key: value[found["confidence"] > score_threshold] for key, value in found.items()}
    found["classes"] = found["classes"].astype("int32")
    if coverage is not None:
        if "uncertainties" not in found:
            raise ValueError("`coverage` needs a decoder that returns the locations of detections.")
        found["intervals"] = model.calibration.intervals(
            found["boxes"], found["uncertainties"], coverage
        )
    names = class_names_of(model)
    return Detections(found, class_names=[names[c] for c in found["classes"]])
