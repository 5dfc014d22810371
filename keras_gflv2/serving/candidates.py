"""A detector up to the candidates of NMS, for runtimes with an operator of their own for that."""

from keras import ops

from keras_gflv2.postprocessing import PredictionDecoder


def has_standard_nms(decoder):
    """Whether a runtime's own operator can take the place of a decoder's NMS.

    Decoders of users are exported as they are. So are overlaps that the operators refuse, or, at 1,
    compare in another way.
    """
    return type(decoder) is PredictionDecoder and 0 <= decoder.nms_iou_threshold < 1


class Candidates(PredictionDecoder):
    """A decoder that stops where non-maximum suppression would begin.

    It does not gather the locations that it chooses: operators pass over scores of 0, and sorting
    is slow in some runtimes. Greedy NMS of its results that takes equal scores by location, then
    by class, gives what `PredictionDecoder` gives.

    Returns:
        "scores" (B, A, C), 0 where a class of a location is no candidate; "corners" (B, A, 4) xyxy,
        of which overlaps are computed; and "boxes" (B, A, 4), for the detector to convert to its
        own format.
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
            "boxes": boxes,
            "classes": ops.zeros_like(boxes[..., 0]),  # a detector blanks boxes without a class
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
