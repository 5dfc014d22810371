"""The COCO metrics, computed by pycocotools from batches in memory.

In: a model and a dataset. Out: a dictionary of floats, or detections in COCO's results format.
"""

import contextlib
import dataclasses
import io
import warnings
from typing import Any

import numpy as np

from keras_gflv2.annotations import Dataset, Detector, Verbose
from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.detections import category_ids_of, detect_dataset

# The twelve numbers of COCOeval.summarize, in its order.
METRIC_NAMES = tuple("AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl".split())
# What COCO counts: the best so many of each class in an image.
COCO_MAX_DETECTIONS = 100


def evaluate_coco(
    model: Detector, dataset: Dataset, *, verbose: Verbose = "auto"
) -> dict[str, Any]:
    """Scores a detector with the twelve COCO metrics.

    Boxes are compared in pixels of the original images: where a batch carries "image_sizes" and
    "original_sizes", the resizing is undone. Sizes (small < 32^2 <= medium < 96^2 <= large square
    pixels) go by "areas" where given, else by box area. Objects marked "ignored" (COCO's crowd,
    VOC's difficult) are neither hits nor misses, and detections mostly inside them are no errors.

    With "image_sizes" the score of an image does not depend on the others of its batch: as in
    `DenseDetector.detect`, it is cut out, padded to its own multiple of 32 and run with images of
    the same canvas. Without them a batch runs as it is, and how much padding an image has in it
    changes its scores a little: padding takes part in group normalization.

    Args:
        model: a dense detector or a `TestTimeAugmentation`.
        dataset: `tf.data.Dataset`, `PyDataset`, `DataLoader` or another iterable of batches:
            dictionaries {"images" (B, H, W, 3), "bounding_boxes": {"boxes" (B, N, 4), "classes"
            (B, N), -1 = padding}} or pairs (images, bounding_boxes), also ragged; or one such
            dictionary of all images. Optional beside boxes: "ignored", "areas" (B, N);
            beside images: "image_sizes", "original_sizes" (B, 2) as height, width and
            "image_ids" (B,). Its attributes `class_names` and `bounding_box_format` are
            respected; without them the model's are taken. The loaders of `keras_gflv2.data` give
            all of this.
        verbose: `"auto"` or 1 for a progress bar, 2 for one line, 0 for silence.

    Returns:
        Dictionary with the floats "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10",
        "AR100", "ARs", "ARm", "ARl" (0..1), and the dictionaries "per_class" and
        "per_class_AP50" from class name to AP. As in pycocotools, -1 means that there is no such
        object to find (for example no small one, or no object of that class).

        All of them count the best 100 detections of each class in an image, as COCO does. Where an
        image has more, a warning says so, and "AP_all" and "AR_all" count all of them.

    Raises:
        ValueError: the dataset is empty, does not fit the model's classes, or has boxes that are
            not finite; the message names the image.
        ImportError: pycocotools is not installed.

    Example:
        >>> metrics = keras_gflv2.evaluation.evaluate_coco(model, val_ds)
        >>> metrics["AP"], metrics["per_class"]["circle"]
        (0.556, 0.61)
    """
    images = detect_dataset(model, dataset, verbose=verbose)
    return coco_metrics(images, class_names_of(model, dataset))


def coco_results(
    model: Detector, dataset: Dataset, *, verbose: Verbose = "auto"
) -> list[dict[str, Any]]:
    """Detections of a whole dataset in COCO's results format.

    Args:
        model: a dense detector.
        dataset: as in `evaluate_coco`. Its attribute `category_ids` maps class indices to COCO
            category ids; without it the id is the class index + 1. Its attribute `image_ids` has
            the ids of the images, of any kind, where they are no integers.
        verbose: as in `evaluate_coco`.

    Returns:
        List of {"image_id", "category_id", "bbox": [x, y, width, height] in pixels of the
        original image, "score"}, which `json.dump` writes and pycocotools' `COCO.loadRes` reads.
    """
    images = detect_dataset(model, dataset, verbose=verbose)
    return results_of(images, category_ids_of(model, dataset))


@dataclasses.dataclass
class MatchedDetections:
    """Detections beside the objects that they found, over all images; boxes in pixels of these.

    Attributes:
        images: (n,) index of the image of each.
        classes: (n,) class index.
        scores: (n,) confidence.
        boxes: (n, 4) xyxy, detected.
        true_boxes: (n, 4) xyxy, of the object.
        uncertainties: (n, 4) of the left, top, right and bottom side, or None.
    """

    images: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    true_boxes: np.ndarray
    uncertainties: np.ndarray | None

    def take(self, rows):
        """Some of them: `rows` is an index or mask of numpy."""
        values = dataclasses.asdict(self)
        return type(self)(**{k: v if v is None else v[rows] for k, v in values.items()})


def match_detections(images, class_names, iou_threshold=0.5, score_threshold=0.0):
    """Which detection found which object, by COCO's rule.

    In each image and class the surest detection takes the object that it overlaps most, if that is
    by `iou_threshold`, then the next one takes one of the others. Objects to ignore, and detections
    that found one of these or nothing, are left out.

    Args:
        images: list of `EvaluatedImage`.
        class_names: list of names of the classes.
        iou_threshold: smallest IoU of a match.
        score_threshold: detections below do not take part.

    Returns:
        `MatchedDetections`.
    """
    images = [image.above(score_threshold) for image in images]
    matches = coco_matches(images, class_names, iou_threshold)
    rows = np.concatenate([match.is_hit for match in matches])
    has_spread = all(image.uncertainties is not None for image in images)
    index = np.repeat(np.arange(len(images)), [len(image.boxes) for image in images])

    def of_all(name):
        return np.concatenate([getattr(image, name) for image in images])

    return MatchedDetections(
        images=index[rows],
        classes=of_all("classes")[rows],
        scores=of_all("scores")[rows],
        boxes=of_all("boxes")[rows],
        true_boxes=np.concatenate(
            [image.true_boxes[m.objects[m.is_hit]] for image, m in zip(images, matches)]
        ),
        uncertainties=of_all("uncertainties")[rows] if has_spread else None,
    )


@dataclasses.dataclass
class ImageMatches:
    """Which detection of an image found which object, by COCO's rule.

    Attributes:
        objects: (m,) index of the object that each detection found, also of one to ignore; -1 for
            none.
        counts: (m,) whether a detection is a hit or an error. The others lie in an object to
            ignore, or are beyond the best 100 of their class.
    """

    objects: np.ndarray
    counts: np.ndarray

    @property
    def is_hit(self):
        """(m,) whether a detection found an object that counts."""
        return self.counts & (self.objects >= 0)


def coco_matches(images, class_names, iou_threshold=0.5):
    """The `ImageMatches` of each image; for the rule and the arguments see `match_detections`."""
    with _silence():
        truth = _coco(images, class_names, _truth)
        detections = _coco(images, class_names, _detections)
        evaluation = _evaluate(truth, detections, COCO_MAX_DETECTIONS, iou_threshold)
    sizes = [len(image.boxes) for image in images]
    objects = np.full(sum(sizes), -1)
    counts = np.zeros(sum(sizes), bool)
    # The ids of annotations count from 1, image by image.
    for found in filter(None, evaluation.evalImgs):
        rows = np.array(found["dtIds"], int) - 1
        objects[rows] = found["dtMatches"][0].astype(int) - 1
        counts[rows] = ~found["dtIgnore"][0].astype(bool)
    first_object = np.cumsum([0, *(len(image.true_boxes) for image in images)])[:-1]
    ends = np.cumsum(sizes)[:-1]
    return [
        ImageMatches(np.where(own >= 0, own - first, -1), own_counts)
        for own, own_counts, first in zip(
            np.split(objects, ends), np.split(counts, ends), first_object
        )
    ]


def coco_metrics(images, class_names, sizes=False):
    """The metrics of `evaluate_coco` from a list of `EvaluatedImage`.

    Args:
        images: the list.
        class_names: list of names of the classes.
        sizes: whether "per_class_APs", "per_class_APm" and "per_class_APl" are in it, too.
    """
    with _silence():
        truth = _coco(images, class_names, _truth)
        detections = _coco(images, class_names, _detections)
        evaluation = _evaluate(truth, detections)
        evaluation.summarize()
    metrics = {name: float(value) for name, value in zip(METRIC_NAMES, evaluation.stats)}
    metrics |= _metrics_of_all(images, truth, detections)
    # (10 IoU thresholds, 101 recalls, classes) at all sizes and 100 detections.
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    metrics["per_class"] = _mean_per_class(precision, class_names)
    metrics["per_class_AP50"] = _mean_per_class(precision[:1], class_names)
    for index, size in enumerate(("s", "m", "l") if sizes else (), start=1):
        of_size = evaluation.eval["precision"][:, :, :, index, -1]
        metrics[f"per_class_AP{size}"] = _mean_per_class(of_size, class_names)
    return metrics


def _metrics_of_all(images, truth, detections):
    """The metrics of all detections, where images have more of a class than COCO counts."""
    most = [np.bincount(image.classes).max(initial=0) for image in images]
    num_cut = sum(count > COCO_MAX_DETECTIONS for count in most)
    if not num_cut:
        return {}
    warnings.warn(
        f"{num_cut} of {len(images)} images have more than {COCO_MAX_DETECTIONS} detections of one "
        f"class (up to {max(most)}). AP, AR{COCO_MAX_DETECTIONS} and the others count the best "
        f'{COCO_MAX_DETECTIONS} of each class in an image, as COCO does; "AP_all" and "AR_all" '
        "count all of them.",
        stacklevel=4,
    )
    # A second evaluation, of all sizes together: matching hundreds of detections is slow.
    with _silence():
        evaluation = _evaluate(truth, detections, max_detections=int(max(most)))
    return {
        "AP_all": _mean_measured(evaluation.eval["precision"]),
        "AR_all": _mean_measured(evaluation.eval["recall"]),
    }


def _evaluate(truth, detections, max_detections=None, iou_threshold=None):
    """pycocotools' evaluation: COCO's own, or of all sizes with another number of detections."""
    # Imported here: `import keras_gflv2` must not need pycocotools.
    from pycocotools.cocoeval import COCOeval

    evaluation = COCOeval(truth, detections, iouType="bbox")
    if max_detections is not None:
        evaluation.params.maxDets = [max_detections]
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    if iou_threshold is not None:
        evaluation.params.iouThrs = np.array([iou_threshold])
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _silence():
    """Context for pycocotools, which prints at every step."""
    return contextlib.redirect_stdout(io.StringIO())


def results_of(images, category_ids):
    """A list of `EvaluatedImage` in COCO's results format, see `coco_results`."""
    return [
        {
            "image_id": image.image_id,
            "category_id": category_ids[label],
            "bbox": xywh(box),
            "score": float(score),
        }
        for image in images
        for box, label, score in zip(image.boxes, image.classes, image.scores)
    ]


def _mean_per_class(precision, class_names):
    return {name: _mean_measured(precision[:, :, i]) for i, name in enumerate(class_names)}


def _mean_measured(values):
    """Mean of what pycocotools could measure (not -1); -1 if nothing."""
    measured = values[values > -1]
    return float(measured.mean()) if measured.size else -1.0


def _coco(images, class_names, annotations_of):
    """A pycocotools COCO object built in memory, with our own ids for images and classes."""
    from pycocotools.coco import COCO

    annotations = [
        annotation
        for image_id, image in enumerate(images, start=1)
        for annotation in annotations_of(image_id, image)
    ]
    for annotation_id, annotation in enumerate(annotations, start=1):
        annotation["id"] = annotation_id  # from 1: pycocotools takes 0 for "not matched"
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": image_id, "height": image.height, "width": image.width}
            for image_id, image in enumerate(images, start=1)
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(class_names)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _truth(image_id, image):
    return [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": xywh(box),
            "area": float(area),
            "iscrowd": int(ignored),
        }
        for box, label, area, ignored in zip(
            image.true_boxes, image.true_classes, image.true_areas, image.true_ignored
        )
    ]


def _detections(image_id, image):
    return [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": xywh(box),
            "area": float(np.prod(xywh(box)[2:])),
            "iscrowd": 0,
            "score": float(score),
        }
        for box, label, score in zip(image.boxes, image.classes, image.scores)
    ]


def xywh(box):
    left, top, right, bottom = (float(side) for side in box)
    return [left, top, right - left, bottom - top]
