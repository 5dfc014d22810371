"""The worst errors of a detector as pictures, with the truth and all that it says of its boxes.

In: a detector, its dataset and what it found there. Out: plain data; pictures as data URIs.
"""

import base64
import io

import numpy as np
from PIL import Image

from keras_gflv2.batches import batches_of
from keras_gflv2.canvases import own_canvas
from keras_gflv2.evaluation.errors import DETECTION_KINDS, all_errors
from keras_gflv2.images import MEAN_COLOUR
from keras_gflv2.visualization.figures.scenes import scenes_of
from keras_gflv2.visualization.figures.side_distributions import bins_on_image

PER_KIND = 18  # errors that are shown
PER_IMAGE = 60  # detections of a picture that can be looked at
LONGEST = 640  # side of a picture in pixels
QUALITY = 75  # of WebP
# What is one detection in the two runs that find it: for the table and for the distributions.
SAME_PIXELS, SAME_SCORE = 1.0, 0.01


def gallery_of(model, dataset, images, class_names, threshold):
    """The worst errors among the detections with scores above a threshold.

    Of each kind (see `evaluation.errors`) those of the greatest scores, of missed objects the
    largest ones, in turn from each class.

    Args:
        model: a dense detector; of others the pictures and boxes alone are told.
        dataset: as in `evaluate_coco`.
        images: list of `EvaluatedImage` of that dataset.
        class_names: list of names of the classes.
        threshold: of the scores.

    Returns:
        Dictionary of
        - "threshold",
        - "items": a list of {"kind", "image", "detection" or "object"}: indices into
        - "images": a list of {"id", "width", "height" (pixels of the original), "picture" (a data
          URI), "objects": list of {"box", "class", "ignored", "found"}, "detections": list of
          {"box", "class", "score", "kind", "object", "iou"}}; boxes are xyxy in pixels of the
          original, classes are indices. Where the detector tells them, detections have
          "uncertainties" (4,) in pixels; "class_score" and "quality" (None of detectors without);
          and "sides", for the left, top, right and bottom side {"probabilities" (n + 1,), "start",
          "step"}: the bins are at start + i * step, x or y in pixels of the original.
    """
    images = [image.above(threshold) for image in images]
    _, errors = all_errors(images, class_names)
    chosen = _worst(images, errors)
    positions = sorted({position for _, position, _ in chosen})
    shown = {p: _described(images[p], errors[p], _rows(chosen, p)) for p in positions}
    _add_pictures(model, dataset, images, shown)
    index = {position: i for i, position in enumerate(positions)}
    items = []
    for kind, position, row in chosen:
        if kind == "missed":
            what = {"object": row}
        else:
            what = {"detection": shown[position]["rows"].index(row)}
        items.append({"kind": kind, "image": index[position], **what})
    listed = [{k: v for k, v in shown[p].items() if k != "rows"} for p in positions]
    return {"threshold": threshold, "items": items, "images": listed}


def _worst(images, errors):
    """List of (kind, position of the image, row of the detection or object), the worst first."""
    chosen = []
    for kind in DETECTION_KINDS:
        found = [
            (float(image.scores[row]), int(image.classes[row]), position, int(row))
            for position, (image, e) in enumerate(zip(images, errors))
            for row in np.flatnonzero(e.kinds == kind)
        ]
        chosen += [(kind, *place) for place in _in_turn(found)]
    missed = [
        (float(image.true_areas[row]), int(image.true_classes[row]), position, int(row))
        for position, (image, e) in enumerate(zip(images, errors))
        for row in np.flatnonzero(e.missed)
    ]
    return chosen + [("missed", *place) for place in _in_turn(missed)]


def _in_turn(found):
    """Places (position, row) of (size, class, position, row): the largest of each class first,
    then the second of each, and so on."""
    ranks, ordered = {}, []
    for size, label, *place in sorted(found, reverse=True):
        ranks[label] = ranks.get(label, -1) + 1
        ordered.append((ranks[label], -size, tuple(place)))
    return [place for *_, place in sorted(ordered)[:PER_KIND]]


def _rows(chosen, position):
    """Detections of an image that are to be shown, whatever else is."""
    return [row for kind, p, row in chosen if p == position and kind != "missed"]


def _described(image, errors, needed):
    """An image with its objects and its best detections, without the picture."""
    rows = [int(r) for r in np.argsort(-image.scores, kind="stable")[:PER_IMAGE]]
    rows += [row for row in needed if row not in rows]
    detections = []
    for row in rows:
        told = {
            "box": _pixels(image.boxes[row]),
            "class": image.classes[row],
            "score": image.scores[row],
            "kind": errors.kinds[row] or "ignored",
            "object": errors.objects[row],
            "iou": errors.ious[row],
        }
        if image.uncertainties is not None:
            told["uncertainties"] = _pixels(image.uncertainties[row])
        detections.append(told)
    objects = [
        {"box": _pixels(box), "class": label, "ignored": bool(ignored), "found": bool(found)}
        for box, label, ignored, found in zip(
            image.true_boxes, image.true_classes, image.true_ignored, errors.found
        )
    ]
    return {
        "id": str(image.image_id),
        "width": image.width,
        "height": image.height,
        "objects": objects,
        "detections": detections,
        "rows": rows,
    }


def _add_pictures(model, dataset, images, shown):
    """Adds the pictures and what a detector says at the places of its detections."""
    pixels = _pixels_of(dataset, set(shown))
    if not hasattr(model, "representation"):  # several views have no distributions of one box
        for position, own in pixels:
            shown[position]["picture"] = _picture(own)
        return
    positions = []

    def batches():
        for position, own in pixels:
            positions.append(position)
            yield _batch(own, getattr(model, "padding_color", MEAN_COLOUR))

    for scene in scenes_of(model, batches()):
        position = positions[-1]  # batches have one image
        shown[position]["picture"] = _picture(scene.image)
        _add_distributions(scene, shown[position])


def _pixels_of(dataset, positions):
    """Yields the positions of images in a dataset, and their pixels (H, W, 3) without padding."""
    position = 0
    for batch in batches_of(dataset)[0]:
        height, width = batch["images"].shape[1:3]
        sizes = batch.get("image_sizes", [(height, width)] * len(batch["images"]))
        for image, (rows, columns) in zip(batch["images"], np.asarray(sizes, int)):
            if position in positions:
                yield position, image[:rows, :columns]
            position += 1


def _batch(pixels, color):
    """A batch of one image without objects, padded as `detect_dataset` does."""
    canvas = np.empty((1, *own_canvas(pixels), 3), "float32")
    canvas[:] = color
    canvas[0, : pixels.shape[0], : pixels.shape[1]] = pixels
    return {
        "images": canvas,
        "image_sizes": np.array([pixels.shape[:2]], "int32"),
        "bounding_boxes": {
            "boxes": np.full((1, 1, 4), -1.0, "float32"),
            "classes": np.full((1, 1), -1, "int32"),
        },
    }


def _add_distributions(scene, shown):
    scale = np.array([shown["width"], shown["height"]]) / scene.image.shape[1::-1]
    scale = np.tile(scale, 2)  # from pixels of the scene to those of the original
    found = scene.detections
    for told in shown["detections"]:
        distance = np.abs(found["boxes"] * scale - told["box"]).max(axis=-1, initial=0.0)
        same = found["classes"] == told["class"]
        same &= np.abs(found["confidence"] - told["score"]) < SAME_SCORE
        distance = np.where(same, distance, np.inf)
        if not len(distance) or distance.min() > SAME_PIXELS * max(scale):
            continue  # voting moved the box, or a near tie went the other way
        location = found["locations"][distance.argmin()]
        told["class_score"] = scene.class_scores[location, told["class"]]
        told["quality"] = None if scene.quality is None else scene.quality[location]
        if scene.distributions is not None:
            bins = bins_on_image(scene, location) * scale[:, None]
            told["sides"] = side_data(scene.distributions[location], bins)


def side_data(distributions, bins):
    """What a page draws of the sides of a box, see "sides" in `gallery_of`.

    Args:
        distributions: (4, n + 1) probabilities.
        bins: (4, n + 1) where on the image they are.
    """
    return [
        {"probabilities": row, "start": float(own[0]), "step": float(own[1] - own[0])}
        for row, own in zip(distributions, bins)
    ]


def _picture(pixels):
    """A data URI of an image (H, W, 3), as WebP."""
    content = webp_of(np.clip(np.rint(pixels), 0, 255).astype("uint8"), LONGEST)
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def webp_of(pixels, longest):
    """Bytes of a WebP file of an image (H, W, 3) uint8, at most `longest` pixels wide and high."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((longest, longest))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def _pixels(values):
    return [round(float(value), 1) for value in values]
