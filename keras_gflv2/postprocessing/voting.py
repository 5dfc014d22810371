"""What remains of non-maximum suppression, moved to the mean of the candidates around it."""

from keras import ops

from keras_gflv2 import boxes as box_ops

VOTING_IOU = 0.65
KINDS = ("score", "iou", "variance")
SMALLEST = 1e-9
SMALLEST_SPREAD = 1e-3  # pixels


def vote(detections, scores, boxes, iou_threshold=VOTING_IOU):
    """The mean of the candidates around each detection, weighted by their scores.

    After Gidaris and Komodakis (2015), "Object detection via a multi-region and semantic
    segmentation-aware CNN model".

    Args:
        detections: "boxes" (B, D, 4) xyxy and "classes" (B, D), -1 after the last. With the
            uncertainties of boxes their own "uncertainties" (B, D, 4), too.
        scores: (B, A, C), 0 where a location is no candidate for a class.
        boxes: (B, A, 4) xyxy, or (B, A, 8) with the uncertainties of the sides after them.
        iou_threshold: candidates must overlap a detection by more.

    Returns:
        Means (B, D, 4) or (B, D, 8), as `boxes`.
    """
    kept = detections["boxes"]
    by_class = _scores_by_class(detections, scores)
    overlap = box_ops.pairwise_iou(kept, boxes[..., :4])  # (B, D, A)
    weights = ops.where(overlap > iou_threshold, by_class, 0.0)
    if boxes.shape[-1] > 4:
        kept = ops.concatenate([kept, detections["uncertainties"]], axis=-1)
    return _mean(weights, boxes, ops.ones_like(boxes[..., :1]), kept)


def vote_by_overlap(detections, scores, boxes, spread=None, sigma=0.02):
    """The mean of the candidates around each detection, weighted by how much they overlap it.

    Softer-NMS, or variance voting (He et al., 2019, "Bounding Box Regression with Uncertainty for
    Accurate Object Detection", section 3.3): each side is the mean of those of the candidates with
    the weights exp(-(1 - IoU)^2 / sigma) / variance of the side.

    Args:
        detections, scores: as in `vote`.
        boxes: (B, A, 4) xyxy.
        spread: (B, A, 4) standard deviations of the sides; None for equal ones.
        sigma: the smaller, the nearer candidates must be.

    Returns:
        Means (B, D, 4).
    """
    overlap = box_ops.pairwise_iou(detections["boxes"], boxes)  # (B, D, A)
    near = (overlap > 0) & (_scores_by_class(detections, scores) > 0)
    # In float32 the weights of candidates far away are 0, that of the detection itself is 1.
    weights = ops.where(near, ops.exp(-ops.square(1 - overlap) / sigma), 0.0)
    precision = ops.ones_like(boxes[..., :1])
    if spread is not None:
        precision = 1 / ops.square(ops.maximum(spread, SMALLEST_SPREAD))
    return _mean(weights, boxes, precision, detections["boxes"])


def _scores_by_class(detections, scores):
    """Scores (B, D, A) of all locations for the class of each detection."""
    classes = ops.maximum(detections["classes"], 0)[..., None]
    return ops.take_along_axis(ops.transpose(scores, (0, 2, 1)), classes, axis=1)


def _mean(weights, values, precision, otherwise):
    """Means (B, D, n) of values (B, A, n), weighted by `weights` (B, D, A) times `precision`.

    Args:
        precision: (B, A, n) or (B, A, 1).
        otherwise: (B, D, n), the result where there is no weight: a box without an area overlaps
            not even itself.
    """
    total = ops.matmul(weights, values * precision)
    weight = ops.matmul(weights, precision)
    return ops.where(weight > 0, total / ops.maximum(weight, SMALLEST), otherwise)
