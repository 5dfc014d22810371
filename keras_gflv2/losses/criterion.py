"""Predictions and objects in, the weighted losses of a training step out."""

from collections.abc import Sequence

import keras

from keras_gflv2.losses.localization_distillation import LocalizationDistillationLoss
from keras_gflv2.losses.matches import Matches
from keras_gflv2.losses.quality_focal import QualityFocalLoss
from keras_gflv2.losses.terms import (
    QUALITIES,
    BoxTerm,
    ClassTerm,
    DistillationTerm,
    DistributionTerm,
    QualityTerm,
    Term,
)
from keras_gflv2.parts import Part


@keras.saving.register_keras_serializable(package="keras_gflv2")
class Criterion(Part):
    """What a detector is trained towards: a list of terms. It knows no model.

    Args:
        terms: list of `Term`, with different names.

    Call arguments:
        targets: `Targets` of the batch.
        assignment: the `Assignment` of its locations.
        outputs: what calling the model returns.
        at: `Locations` of the batch.
        representation: the `BoxRepresentation` of the raw numbers.

    Returns {name of the term: scalar}: this replica's parts of the weighted losses.

    Raises:
        ValueError: two terms have one name.
    """

    def __init__(self, terms: Sequence[Term]):
        self.terms = list(terms)
        if len({term.name for term in self.terms}) < len(self.terms):
            raise ValueError(f"Terms need different names, got {list(self.names)}.")

    @classmethod
    def for_outputs(cls, outputs):
        """The criterion of Generalized Focal Loss for a model with these outputs, {name: tensor}.

        Quality focal loss of the scores, of their logits where there are some; GIoU loss; the loss
        of distributions and that of a quality branch where there are such outputs.
        """
        terms = [ClassTerm(QualityFocalLoss(from_logits="class_logits" in outputs)), BoxTerm()]
        if "box_distributions" in outputs:
            terms.append(DistributionTerm())
        terms += [QualityTerm(target=kind) for kind in QUALITIES if kind in outputs]
        return cls(terms)

    def __call__(self, targets, assignment, outputs, at, representation):
        matches = Matches(targets, assignment, outputs, at, representation)
        return {term.name: term(matches) for term in self.terms}

    @property
    def names(self):
        """Names of the terms."""
        return tuple(term.name for term in self.terms)

    def replace(self, losses, weights):
        """A copy with other losses and weights.

        Args:
            losses: {name of a term: loss}.
            weights: {name of a term: weight}.
        """
        terms = []
        for term in self.terms:
            changes = {"loss": losses[term.name]} if term.name in losses else {}
            if term.name in weights:
                changes["weight"] = weights[term.name]
            terms.append(term.replace(**changes))
        return type(self)(terms)

    def distillation_term(self, temperature, weight):
        """A `DistillationTerm` that weighs the positives as this criterion's distributions are."""
        weighted_by = {t.name: t.weighted_by for t in self.terms if isinstance(t, DistributionTerm)}
        return DistillationTerm(
            LocalizationDistillationLoss(temperature),
            weight,
            weighted_by.get(DistributionTerm.name, "score"),
        )

    def with_term(self, term):
        """A copy with one more `Term`."""
        return type(self)([*self.terms, term])
