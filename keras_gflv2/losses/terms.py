"""The terms of a criterion: who is trained towards what, with which weight and normalizer."""

import keras
from keras import ops

from keras_gflv2.annotations import Loss
from keras_gflv2.losses.distribution_focal import DistributionFocalLoss
from keras_gflv2.losses.giou import GIoULoss
from keras_gflv2.losses.localization_distillation import LocalizationDistillationLoss
from keras_gflv2.losses.per_location import per_location
from keras_gflv2.losses.quality_focal import QualityFocalLoss
from keras_gflv2.parts import Part

NORMALIZERS = ("positives", "positives_and_images", "positives_alone")
WEIGHTS = ("score", "centerness", "iou")
QUALITIES = ("centerness", "iou")


class Term(Part):
    """One loss of a criterion.

    Call argument: the `Matches` of a batch. Returns a scalar: this replica's part of the weighted
    loss, normalized over all replicas.

    Attributes:
        name: of the term; "classification" gives `classification_loss` in the logs.
        loss: a `keras.losses.Loss`, or a function of targets and predictions.
        weight: of the term in the sum.
    """

    name = "term"

    def replace(self, **changes):
        """A copy with other arguments."""
        return type(self)(**{**self.get_config(), **changes})

    def _per_location(self, y_true, y_pred):
        return per_location(self.loss, y_true, y_pred, f"{self.name}_loss")

    def _check(self, argument, known):
        value = getattr(self, argument)
        if value not in known:
            raise ValueError(f"`{argument}` must be one of {known}, got {value!r}.")


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ClassTerm(Term):
    """The class scores of all valid locations.

    Args:
        loss: of targets and scores (B, A, C), or of logits where it has `from_logits=True`. Default
            `QualityFocalLoss()`.
        weight: of the term.
        target: what the score of an object's class becomes: "iou", the quality of the predicted
            box (GFLV2, Eq. 1), or "one", as in RetinaNet. All others become 0.
        normalizer: what the sum is divided by: "positives", "positives_and_images" or
            "positives_alone"; see `Matches`.
    """

    name = "classification"

    def __init__(
        self,
        loss: Loss = None,
        weight: float = 1.0,
        target: str = "iou",
        normalizer: str = "positives",
    ):
        self.loss = loss or QualityFocalLoss()
        self.weight = weight
        self.target = target
        self.normalizer = normalizer
        self._check("target", ("iou", "one"))
        self._check("normalizer", NORMALIZERS)

    def __call__(self, matches):
        quality = matches.iou
        if self.target == "one":
            quality = ops.cast(matches.positive, "float32")
        target = quality[..., None] * matches.one_hot
        losses = self._per_location(target, self.predictions(matches.outputs))
        total = ops.sum(ops.where(matches.valid, losses, 0.0))
        return self.weight * total / getattr(matches, self.normalizer)

    def predictions(self, outputs):
        """What the loss is of: logits, or probabilities without the factor of a quality branch."""
        logits = outputs.get("class_logits")
        if getattr(self.loss, "from_logits", False):
            return logits
        return outputs["scores"] if logits is None else ops.sigmoid(logits)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class BoxTerm(Term):
    """The boxes of the positives.

    Args:
        loss: of boxes (B, A, 4), xyxy in strides; with `encoded`, of the representation's targets
            and raw numbers. Default `GIoULoss()`.
        weight: of the term.
        weighted_by: weight of each positive, "score", "centerness" or "iou"; the sum is divided by
            the sum of the weights. None weighs all alike and divides by `normalizer`.
        encoded: whether the loss is of raw numbers instead of boxes.
        normalizer: as in `ClassTerm`.
    """

    name = "box"

    def __init__(
        self,
        loss: Loss = None,
        weight: float = 2.0,
        weighted_by: str | None = "score",
        encoded: bool = False,
        normalizer: str = "positives",
    ):
        self.loss = loss or GIoULoss()
        self.weight = weight
        self.weighted_by = weighted_by
        self.encoded = encoded
        self.normalizer = normalizer
        self._check("weighted_by", (None, *WEIGHTS))
        self._check("normalizer", NORMALIZERS)

    def __call__(self, matches):
        if self.encoded:
            losses = self._per_location(matches.encoded, matches.raw)
        else:
            losses = self._per_location(matches.boxes_true, matches.boxes)
        if self.weighted_by is None:
            total = ops.sum(ops.where(matches.positive, losses, 0.0))
            return self.weight * total / getattr(matches, self.normalizer)
        weights = getattr(matches, self.weighted_by)
        return self.weight * ops.sum(losses * weights) / matches.sum_of(weights)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DistributionTerm(Term):
    """The distributions of the four sides of the positives (Generalized Focal Loss, section 3.3).

    Args:
        loss: of distances (B, A, 4) in bins and logits (B, A, 4, n + 1). Default
            `DistributionFocalLoss()`.
        weight: of the term, on the mean of the four sides.
        weighted_by: as in `BoxTerm`, but not None.
    """

    name = "distribution"

    def __init__(self, loss: Loss = None, weight: float = 0.25, weighted_by: str = "score"):
        self.loss = loss or DistributionFocalLoss()
        self.weight = weight
        self.weighted_by = weighted_by
        self._check("weighted_by", WEIGHTS)

    def __call__(self, matches):
        losses = self._per_location(self._targets(matches), matches.raw) / 4
        weights = getattr(matches, self.weighted_by)
        return self.weight * ops.sum(losses * weights) / matches.sum_of(weights)

    def _targets(self, matches):
        return matches.encoded


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DistillationTerm(DistributionTerm):
    """The distributions of the positives, towards a teacher's (Zheng et al., 2022).

    `keras_gflv2.training.distill` adds it to a criterion. It expects "teacher_distributions"
    (B, A, 4, n + 1), logits, among the outputs.

    Args:
        loss: of logits (B, A, 4, n + 1) of teacher and student. Default
            `LocalizationDistillationLoss()`.
        weight: of the term, on the mean of the four sides.
        weighted_by: as in `DistributionTerm`.
    """

    name = "localization_distillation"
    teacher_output = "teacher_distributions"

    def __init__(self, loss: Loss = None, weight: float = 0.25, weighted_by: str = "score"):
        super().__init__(loss or LocalizationDistillationLoss(), weight, weighted_by)

    def _targets(self, matches):
        return matches.outputs[self.teacher_output]


@keras.saving.register_keras_serializable(package="keras_gflv2")
class QualityTerm(Term):
    """A quality branch, on the positives.

    Args:
        loss: of targets and logits (B, A, 1). Default binary cross-entropy.
        weight: of the term.
        target: "centerness" or "iou", which is also the name of the branch's output.
        normalizer: as in `ClassTerm`.
    """

    name = "quality"

    def __init__(
        self,
        loss: Loss = None,
        weight: float = 1.0,
        target: str = "centerness",
        normalizer: str = "positives",
    ):
        self.loss = loss or keras.losses.BinaryCrossentropy(from_logits=True)
        self.weight = weight
        self.target = target
        self.normalizer = normalizer
        self._check("target", QUALITIES)
        self._check("normalizer", NORMALIZERS)

    def __call__(self, matches):
        target = getattr(matches, self.target)
        losses = self._per_location(target[..., None], matches.outputs[self.target][..., None])
        total = ops.sum(ops.where(matches.positive, losses, 0.0))
        return self.weight * total / getattr(matches, self.normalizer)
