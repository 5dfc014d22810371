"""Scores and boxes of every location in, the final detections out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.postprocessing.nms import non_max_suppression
from keras_gflv2.postprocessing.ranking import best
from keras_gflv2.postprocessing.voting import KINDS, vote, vote_by_overlap
from keras_gflv2.rows import take_rows


@keras.saving.register_keras_serializable(package="keras_gflv2")
class PredictionDecoder(keras.layers.Layer):
    """Selects detections in the order of the official code: level by level, then NMS by class.

    Of each level the `pre_nms_topk` locations with the largest score of any class remain; every
    class of them above the threshold is a candidate of greedy NMS. Three steps, each of which a
    subclass can replace: `choose_locations`, `suppress` and `present`.

    Args:
        score_threshold: scores must be greater.
        nms_iou_threshold: a better box of the same class that overlaps by more suppresses.
        pre_nms_topk: locations kept a level.
        max_detections: D, the length of the result.
        box_voting: whether the box that is kept becomes the mean of the candidates of its class
            around it. None: it stays. "score": of those that overlap it by more than 0.65, weighted
            by their scores (Gidaris and Komodakis, 2015). "iou": of all, weighted by
            exp(-(1 - IoU)^2 / voting_sigma). "variance": by that, divided by the variance of each
            side (He et al., 2019), which detectors with distributions know. What remains, its
            scores and its uncertainties do not change.
        voting_sigma: see there.

    Call arguments:
        scores: (B, A, C) in 0..1.
        boxes: (B, A, 4) xyxy, or a function of locations (B, M) that returns boxes (B, M, 4): only
            those of the locations that are chosen are computed then.
        locations_per_level: list of how many of the A locations each level has.
        score_threshold, nms_iou_threshold: (B,), instead of the layer's.
        candidate_scores: (B, A, C), of which the threshold decides instead of `scores`: the class
            probabilities of detectors whose score is their product with a quality (ATSS, FCOS). Or
            a function of locations, as `boxes`, which may return None.
        spread: (B, A, 4) standard deviations of the sides of `boxes`, or a function of locations,
            as `boxes`. Needed by `box_voting="variance"` alone.

    Returns:
        {"boxes": (B, D, 4), "classes": (B, D) int32, "confidence": (B, D) float32,
        "num_detections": (B,) int32, "locations": (B, D) int32 indices into A}, best first; -1
        after the last detection. A replacement may leave out "locations".
    """

    def __init__(
        self,
        score_threshold: float = 0.05,
        nms_iou_threshold: float = 0.6,
        pre_nms_topk: int = 1000,
        max_detections: int = 100,
        dtype: DType = "float32",
        box_voting: str | None = None,
        voting_sigma: float = 0.02,
        **kwargs,
    ):
        super().__init__(dtype=dtype, **kwargs)
        self.built = True  # No weights: fit need not run the model to find them.
        if max_detections < 1 or pre_nms_topk < 1:
            raise ValueError(
                "`max_detections` and `pre_nms_topk` must be at least 1, got "
                f"{max_detections} and {pre_nms_topk}."
            )
        if box_voting not in (None, *KINDS) or not voting_sigma > 0:
            raise ValueError(
                f"`box_voting` must be None or one of {KINDS}, and `voting_sigma` positive; got "
                f"{box_voting!r} and {voting_sigma!r}."
            )
        self.score_threshold = score_threshold
        self.nms_iou_threshold = nms_iou_threshold
        self.pre_nms_topk = pre_nms_topk
        self.max_detections = max_detections
        self.box_voting = box_voting
        self.voting_sigma = voting_sigma

    def call(
        self,
        scores,
        boxes,
        locations_per_level,
        score_threshold=None,
        nms_iou_threshold=None,
        candidate_scores=None,
        spread=None,
    ):
        threshold = _by_image(score_threshold, self.score_threshold)
        locations = self.choose_locations(scores, locations_per_level)
        scores = _at(scores, locations)
        candidates = _at(candidate_scores, locations)
        if candidates is not None:
            scores, threshold = ops.where(candidates > threshold, scores, 0.0), 0.0
        boxes = _at(boxes, locations)
        iou_threshold = _by_image(nms_iou_threshold, self.nms_iou_threshold)
        kept = self.suppress(scores, boxes, threshold, iou_threshold)
        found = self.present(kept, boxes, locations)
        if self.box_voting:
            scores = ops.where(scores > threshold, ops.cast(scores, "float32"), 0.0)
            found["boxes"] = self._vote(found, scores, boxes, _at(spread, locations))
        return found

    def _vote(self, found, scores, boxes, spread):
        """The boxes (B, D, 4) of what was found, moved as `box_voting` says."""
        if self.box_voting == "variance" and spread is None:
            raise ValueError(
                'box_voting="variance" needs a detector whose boxes are general distributions '
                "(GFLV1, GFLV2, or others with `distribution_guided=True`). Others can vote by "
                '"iou" or "score".'
            )
        if self.box_voting == "score":
            voted = vote(found, scores, boxes)
        else:
            spread = spread if self.box_voting == "variance" else None
            voted = vote_by_overlap(found, scores, boxes, spread, self.voting_sigma)
        return ops.where(found["classes"][..., None] >= 0, voted, -1.0)

    def choose_locations(self, scores, locations_per_level):
        """Indices (B, M) int32, rising, of the locations that can be detections.

        Args:
            scores, locations_per_level: see `call`.
        """
        of_location = ops.max(ops.cast(scores, "float32"), axis=-1)
        chosen, start = [], 0
        for length in locations_per_level:
            level = of_location[:, start : start + length]
            # A level that is known to be small is taken whole.
            k = self.pre_nms_topk
            k = min(k, length) if isinstance(length, int) else ops.minimum(k, length)
            chosen.append(ops.sort(best(level, k)[1], axis=-1) + start)
            start = start + length
        return ops.concatenate(chosen, axis=1)

    def suppress(self, scores, boxes, score_threshold, iou_threshold):
        """Which classes of which of the M chosen locations remain: `non_max_suppression`.

        A subclass can put a runtime's own operator here.

        Args:
            scores: (B, M, C); those at or below the threshold are no candidates.
            boxes: (B, M, 4) xyxy.
            score_threshold, iou_threshold: a number, or (B, 1, 1) for each image its own.

        Returns:
            Dict of "confidence" (B, D) float32, "classes" (B, D) int32 and "indices" (B, D) int32
            into the M locations, best first; all three are -1 after the last detection.
        """
        return non_max_suppression(
            scores,
            boxes,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=self.max_detections,
        )

    def present(self, kept, boxes, locations):
        """The result of `call`.

        Args:
            kept: what `suppress` returns.
            boxes, locations: (B, M, 4) and (B, M), of the chosen locations.
        """
        found = kept["indices"] >= 0
        index = ops.maximum(kept["indices"], 0)
        return {
            "boxes": ops.where(found[..., None], take_rows(boxes, index), -1.0),
            "classes": kept["classes"],
            "confidence": kept["confidence"],
            "num_detections": ops.sum(ops.cast(found, "int32"), axis=1),
            "locations": ops.where(found, take_rows(locations, index), -1),
        }

    def get_config(self):
        return {
            **super().get_config(),
            "score_threshold": self.score_threshold,
            "nms_iou_threshold": self.nms_iou_threshold,
            "pre_nms_topk": self.pre_nms_topk,
            "max_detections": self.max_detections,
            "box_voting": self.box_voting,
            "voting_sigma": self.voting_sigma,
        }


def _at(values, locations):
    """`values` (B, A, ...) at `locations` (B, M); a function of these, or None."""
    if values is None:
        return None
    return values(locations) if callable(values) else take_rows(values, locations)


def _by_image(threshold, default):
    """One threshold an image, (B, 1, 1), or one for all."""
    return default if threshold is None else ops.reshape(threshold, (-1, 1, 1))


def takes_functions(decoder):
    """Whether a decoder can be called with functions of the locations that it chooses.

    Others, of users, have the call signature of `PredictionDecoder` and get arrays.
    """
    return getattr(type(decoder), "call", None) is PredictionDecoder.call
