"""Greedy class-aware non-maximum suppression with static shapes.

Scores (B, M, C) and boxes (B, M, 4) in; the surviving pairs of location and class out, best first.
"""

from keras import ops

from keras_gflv2 import boxes as box_ops

BLOCK_SIZE = 1000


def non_max_suppression(
    scores, boxes, *, score_threshold=0.05, iou_threshold=0.6, max_detections=100
):
    """The result of greedy NMS within each class, exactly, on every backend.

    Every class of a location whose score is above the threshold is a candidate. In the order of
    their scores, a candidate is kept unless a kept one of its class overlaps it by more than
    `iou_threshold`; the first `max_detections` kept ones are returned. Of equal scores the first
    location is the better one, and of one location the first class (on PyTorch any may be: its
    top-k has no order of equal values).

    Candidates are taken in blocks of the best 1000 not yet seen, until enough are kept or none is
    left: one block is nearly always enough, and the result does not depend on it.

    Args:
        scores: (B, M, C) in 0..1.
        boxes: (B, M, 4) xyxy.
        score_threshold: scores must be greater; a number, or (B, 1, 1) for each image its own.
        iou_threshold: greater overlaps suppress; likewise.
        max_detections: D, the length of the result.

    Returns:
        Dict of "confidence" (B, D) float32, "classes" (B, D) int32 and "indices" (B, D) int32 into
        the M locations; all three are -1 after the last detection.
    """
    scores = ops.where(scores > score_threshold, ops.cast(scores, "float32"), -1.0)
    batch = ops.shape(scores)[0]
    selected = {
        "confidence": ops.full((batch, max_detections), -1.0, dtype="float32"),
        "classes": ops.full((batch, max_detections), -1, dtype="int32"),
        "indices": ops.full((batch, max_detections), -1, dtype="int32"),
    }

    def unfinished(scores, selected):
        room = selected["confidence"][:, -1] < 0
        return ops.any(room & (ops.max(scores, axis=(1, 2)) > 0))

    def add_block(scores, selected):
        block = _best_candidates(scores, BLOCK_SIZE)
        scores = _remove(scores, block["flat"])
        keep = _keep(block, selected, boxes, iou_threshold)
        return scores, _merge(selected, block, keep, max_detections)

    scores, selected = ops.while_loop(unfinished, add_block, (scores, selected))
    return selected


def _best_candidates(scores, size):
    """The `size` best pairs of location and class, best first; those below 0 are none."""
    num_classes = scores.shape[-1]
    # The best pairs lie at the locations with the best classes: two small top-k for a large one.
    num_locations = _at_most(ops.shape(scores)[1], size)
    _, location = ops.top_k(ops.max(scores, axis=-1), num_locations)  # (B, L)
    location = ops.sort(ops.cast(location, "int32"), axis=-1)  # equal scores stay in order
    # (B, L, C) -> (B, L * C)
    pairs = ops.take_along_axis(scores, location[..., None], axis=1)
    shape = ops.shape(pairs)
    pairs = ops.reshape(pairs, (shape[0], shape[1] * num_classes))
    confidence, pair = ops.top_k(pairs, _at_most(shape[1] * num_classes, size))
    location = ops.take_along_axis(location, pair // num_classes, axis=1)
    classes = ops.cast(pair % num_classes, "int32")
    return {
        "confidence": confidence,
        "classes": classes,
        "indices": location,
        "flat": location * num_classes + classes,
    }


def _at_most(length, limit):
    """min(length, limit), where a graph may know `length` only when it runs."""
    return min(length, limit) if isinstance(length, int) else ops.minimum(length, limit)


def _remove(scores, flat):
    """`scores` (B, M, C) with -1 at the `flat` (B, K) indices into M * C."""
    shape = ops.shape(scores)
    length = shape[1] * shape[2]
    index = flat + ops.arange(shape[0], dtype=flat.dtype)[:, None] * length
    index = ops.reshape(index, (-1, 1))
    removed = ops.scatter_update(
        ops.reshape(scores, (-1,)), index, ops.full_like(index[:, 0], -1.0, dtype=scores.dtype)
    )
    return ops.reshape(removed, shape)


def _keep(block, selected, boxes, iou_threshold):
    """Which candidates of a block survive: (B, K) bool."""
    present = block["confidence"] > 0
    block_boxes = _gather_boxes(boxes, block["indices"])
    kept_boxes = _gather_boxes(boxes, ops.maximum(selected["indices"], 0))
    by_earlier = _suppresses(
        kept_boxes, selected["classes"], block_boxes, block["classes"], iou_threshold
    )
    candidate = present & ~ops.any(by_earlier, axis=1)
    overlapping = _suppresses(
        block_boxes, block["classes"], block_boxes, block["classes"], iou_threshold
    )
    order = ops.arange(ops.shape(present)[1])
    better = order[:, None] < order[None, :]
    suppresses = ops.cast(overlapping & better[None], "float32")  # (B, K suppressor, K)

    # Keep what no kept one suppresses, until that is true of the result: the first candidate is
    # right at once, and every round makes right at least the next one.
    def changed(keep, previous):
        return ops.any(ops.not_equal(keep, previous))

    def update(keep, previous):
        del previous
        hits = ops.matmul(ops.cast(keep, "float32")[:, None], suppresses)[:, 0]
        return candidate & (hits < 0.5), keep

    keep, _ = ops.while_loop(changed, update, (candidate, ops.zeros_like(candidate)))
    return keep


def _gather_boxes(boxes, indices):
    return ops.take_along_axis(boxes, indices[..., None], axis=1)


def _suppresses(boxes, classes, other_boxes, other_classes, iou_threshold):
    """Whether a box of the first set overlaps one of the same class in the second: (B, K, L)."""
    overlap = box_ops.iou(boxes[:, :, None], other_boxes[:, None], epsilon=1e-12)
    same_class = ops.equal(classes[:, :, None], other_classes[:, None])
    return same_class & (overlap > iou_threshold)


def _merge(selected, block, keep, length):
    """The best `length` of what was selected before and what the block keeps."""
    block_confidence = ops.where(keep, block["confidence"], -1.0)
    confidence = ops.concatenate([selected["confidence"], block_confidence], axis=1)
    confidence, index = ops.top_k(confidence, length)
    present = confidence > 0

    def pick(name):
        values = ops.concatenate([selected[name], block[name]], axis=1)
        return ops.where(present, ops.take_along_axis(values, index, axis=1), -1)

    return {
        "confidence": ops.where(present, confidence, -1.0),
        "classes": pick("classes"),
        "indices": pick("indices"),
    }
