"""A detector before and after NMS, for runtimes with an operator of their own for that."""

from keras import ops

from keras_gflv2.grid import Locations
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.rows import take_rows


def has_standard_nms(decoder):
    """Whether a runtime's own operator can take the place of a decoder's NMS.

    Decoders of users are exported as they are, and so are those that vote: the operators drop the
    boxes that have a vote. So are overlaps that the operators refuse, or, at 1, compare in another
    way.
    """
    is_plain = type(decoder) is PredictionDecoder and not decoder.box_voting
    return is_plain and 0 <= decoder.nms_iou_threshold < 1


class Candidates(PredictionDecoder):
    """A decoder that stops where non-maximum suppression would begin.

    It does not gather the locations that it chooses: operators pass over scores of 0, and sorting
    is slow in some runtimes. Greedy NMS of its results that takes equal scores by location, then
    by class, gives what `PredictionDecoder` gives.

    Returns:
        "scores" (B, A, C), 0 where a class of a location is no candidate; "corners" (B, A, 4) xyxy,
        of which overlaps are computed; and "candidate_boxes" (B, A, 4), the boxes as they are.
    """

    def call(self, scores, boxes, locations_per_level, candidate_scores=None):
        deciding = scores if candidate_scores is None else candidate_scores
        is_candidate = self._is_chosen(scores, locations_per_level)[..., None]
        is_candidate = is_candidate & (deciding > self.score_threshold)
        # Sides in the wrong order mean no overlap; operators would exchange them.
        right_order = ops.maximum(boxes[..., :2], boxes[..., 2:])
        return {
            "scores": ops.where(is_candidate, ops.cast(scores, "float32"), 0.0),
            "corners": ops.concatenate([boxes[..., :2], right_order], axis=-1),
            "candidate_boxes": boxes,
        }

    def _is_chosen(self, scores, locations_per_level):
        """Which locations `choose_locations` takes: (B, A) bool."""
        best = ops.max(scores, axis=-1)
        chosen, start = [], 0
        for length in locations_per_level:
            level = best[:, start : start + length]
            k = ops.minimum(self.pre_nms_topk, length)
            last = ops.top_k(level, k)[0][:, -1:]
            above, equal = level > last, ops.equal(level, last)
            room = k - ops.sum(ops.cast(above, "int32"), axis=1, keepdims=True)
            place = ops.cumsum(ops.cast(equal, "int32"), axis=1)
            chosen.append(above | (equal & (place <= room)))
            start = start + length
        return ops.concatenate(chosen, axis=1)


def before_nms(model, images):
    """All that a runtime needs for the detections in images (B, H, W, 3).

    Args:
        model: a detector whose decoder is `Candidates`.
        images: float32 RGB in 0..255.

    Returns:
        What `Candidates` returns, and for `after_nms` "size" (2,) int32, height and width of the
        batch, and of detectors with distributions "raw" (B, A, ...), their numbers, "points" (A, 2)
        and "strides" (A, 1) of the locations.
    """
    height, width = ops.shape(images)[1:3]
    size, at = ops.stack([height, width]), model.grid(height, width)
    predictions = model(images, training=False)
    found = model.select_detections(predictions, at, size[None])
    if model.representation.has_spread:
        raw = predictions[model.representation.output_name]
        found.update(raw=raw, points=at.points, strides=at.strides)
    return {**found, "size": size}


def after_nms(model, kept, found):
    """Boxes, and uncertainties of their sides where there are, as `predict` returns them.

    Only what is kept is computed.

    Args:
        model: the detector.
        kept: what NMS leaves: "locations" (B, D) int32 indices into A, "classes" (B, D) int32, both
            -1 after the last, and "confidence" (B, D).
        found: what `before_nms` returns.
    """
    locations = kept["locations"]
    boxes = take_rows(found["candidate_boxes"], ops.maximum(locations, 0))
    detections = {**kept, "boxes": boxes}
    if "raw" in found:
        at = Locations(found["points"], found["strides"], [], model.grid)
        detections.update(model.uncertainties(found["raw"], locations, at))
    finished = model.finish_detections(detections, found["size"][0], found["size"][1])
    return {name: finished[name] for name in ("boxes", "uncertainties") if name in finished}
