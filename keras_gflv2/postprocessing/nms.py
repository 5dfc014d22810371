"""Greedy class-aware non-maximum suppression with static shapes.

Scores (B, M, C) and boxes (B, M, 4) in; the surviving pairs of location and class out, best first.
"""

from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.annotations import Array
from keras_gflv2.postprocessing import tensorflow_nms
from keras_gflv2.postprocessing.ranking import best
from keras_gflv2.rows import take_rows

# Candidates that are put in order at a time, and of these the ones that are compared at a time.
CANDIDATES = 1000
BLOCK_SIZE = 128


def non_max_suppression(
    scores: Array,
    boxes: Array,
    *,
    score_threshold: float | Array = 0.05,
    iou_threshold: float | Array = 0.6,
    max_detections: int = 100,
) -> dict[str, Array]:
    """The result of greedy NMS within each class, exactly, on every backend.

    Every class of a location whose score is above the threshold is a candidate. In the order of
    their scores, of equal ones in that of location and class, a candidate is kept unless a kept
    one of its class overlaps it by more than `iou_threshold`; the first `max_detections` kept ones
    are returned.

    Candidates are taken in portions, until enough are kept or none is left: time grows with the
    candidates that must be looked at, and the result does not depend on the portions.

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
    num_classes, batch = scores.shape[-1], ops.shape(scores)[0]
    scores = ops.reshape(ops.cast(scores, "float32"), (batch, -1))  # (B, M * C)
    threshold = ops.reshape(ops.convert_to_tensor(score_threshold, dtype="float32"), (-1, 1))
    if tensorflow_nms.applies(iou_threshold):
        select = tensorflow_nms.select
    else:
        select = _select
        iou_threshold = ops.convert_to_tensor(iou_threshold, dtype="float32")

    def unfinished(last, selected):
        return ops.any((selected["confidence"][:, -1] < 0) & (last["confidence"] > 0))

    def add_candidates(last, selected):
        ahead = last["confidence"][:, None], last["flat"][:, None]
        candidates = _next_candidates(scores, ahead, threshold, num_classes)
        # The last one by reductions: a slice would have XLA sort all scores for it.
        least = ops.min(candidates["confidence"], axis=1)
        flat = candidates.pop("flat")
        flat = ops.max(ops.where(candidates["confidence"] > least[:, None], -1, flat), axis=1)
        candidates["boxes"] = take_rows(boxes, candidates["indices"])
        last = {"confidence": least, "flat": flat}
        return last, select(selected, candidates, iou_threshold, num_classes)

    last = {
        "confidence": ops.full((batch,), float("inf"), dtype="float32"),
        "flat": ops.full((batch,), -1, dtype="int32"),
    }
    selected = {
        "confidence": ops.full((batch, max_detections), -1.0, dtype="float32"),
        "classes": ops.full((batch, max_detections), -1, dtype="int32"),
        "indices": ops.full((batch, max_detections), -1, dtype="int32"),
        "boxes": ops.zeros((batch, max_detections, 4), dtype="float32"),
    }
    _, selected = ops.while_loop(unfinished, add_candidates, (last, selected))
    return {name: selected[name] for name in ("confidence", "classes", "indices")}


def _next_candidates(scores, ahead, threshold, num_classes):
    """The best pairs of location and class after those `ahead`, in order; -1 for none.

    Args:
        scores: (B, M * C).
        ahead: score and flat index (B, 1) of the last pair that was taken.
        threshold: (B, 1) or (1, 1), scores must be greater.
        num_classes: C.
    """
    length = ops.shape(scores)[1]
    flat = ops.arange(length, dtype="int32")
    after = (scores < ahead[0]) | (ops.equal(scores, ahead[0]) & (flat > ahead[1]))
    limit = min(length, CANDIDATES) if isinstance(length, int) else ops.minimum(length, CANDIDATES)
    confidence, flat = best(ops.where(after, scores, -1.0), limit)
    return {
        "confidence": ops.where((confidence > threshold) & (confidence > 0), confidence, -1.0),
        "classes": flat % num_classes,
        "indices": flat // num_classes,
        "flat": flat,
    }


def _select(selected, candidates, iou_threshold, num_classes):
    """What is kept of the `selected` (B, D) and, after them, of the `candidates` (B, N).

    Both are dicts of "confidence", "classes", "indices" and "boxes"; so is the result.
    """
    del num_classes

    count = ops.shape(candidates["confidence"])[1]

    def unfinished(start, selected):
        first = ops.take(candidates["confidence"], ops.minimum(start, count - 1), axis=1)
        return (start < count) & ops.any((selected["confidence"][:, -1] < 0) & (first > 0))

    def add_block(start, selected):
        position = start + ops.arange(BLOCK_SIZE, dtype="int32")
        inside = ops.minimum(position, count - 1)
        block = {name: ops.take(values, inside, axis=1) for name, values in candidates.items()}
        block["confidence"] = ops.where(position < count, block["confidence"], -1.0)
        return start + BLOCK_SIZE, _merge(selected, block, _keep(block, selected, iou_threshold))

    start = ops.convert_to_tensor(0, dtype="int32")
    return ops.while_loop(unfinished, add_block, (start, selected))[1]


def _keep(block, selected, iou_threshold):
    """Which candidates of a block survive: (B, S) bool."""
    candidate = block["confidence"] > 0
    candidate = candidate & ~ops.any(_overlaps(block, selected, iou_threshold), axis=2)
    order = ops.arange(BLOCK_SIZE)
    better = order[None, :] < order[:, None]
    suppressors = _overlaps(block, block, iou_threshold) & better  # of each, in the last axis

    # Keep what no kept one suppresses, until that is true of the result: the first candidate is
    # right at once, and every round makes right at least the next one.
    def changed(keep, previous):
        return ops.any(ops.not_equal(keep, previous))

    def update(keep, previous):
        del previous
        return candidate & ~ops.any(suppressors & keep[:, None], axis=2), keep

    return ops.while_loop(changed, update, (candidate, ops.zeros_like(candidate)))[0]


def _overlaps(one, other, iou_threshold):
    """Whether a box of one set overlaps one of the same class in the other: (B, K, L)."""
    overlap = box_ops.pairwise_iou(one["boxes"], other["boxes"], epsilon=1e-12)
    same_class = ops.equal(one["classes"][:, :, None], other["classes"][:, None])
    return same_class & (overlap > iou_threshold)


def _merge(selected, block, keep):
    """What was selected before and what a block keeps after it, as much as there is room for."""
    room = selected["confidence"].shape[1]
    present = ops.concatenate([selected["confidence"] > 0, keep], axis=1)
    total = room + BLOCK_SIZE
    ranks = ops.where(present, total - ops.arange(total, dtype="float32"), 0.0)
    rank, index = ops.top_k(ranks, room)

    def pick(name):
        values = ops.concatenate([selected[name], block[name]], axis=1)
        return take_rows(values, ops.cast(index, "int32"))

    return {
        "boxes": pick("boxes"),
        **{name: ops.where(rank > 0, pick(name), -1) for name in ("classes", "indices")},
        "confidence": ops.where(rank > 0, pick("confidence"), -1.0),
    }
