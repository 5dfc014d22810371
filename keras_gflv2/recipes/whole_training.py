"""A training in several calls of `fit`: where it began, and the one plan for all of them."""

import contextlib
import dataclasses
from collections.abc import Iterator

from keras_gflv2.annotations import Detector
from keras_gflv2.recipes.plan import Plan


@dataclasses.dataclass
class WholeTraining:
    """The training of which several calls of `fit` are parts, as those of one that is resumed.

    Attributes:
        steps_per_epoch: those of a whole epoch, however few a part has; None if unknown.
        first_step: `optimizer.iterations` where the training began.
        plan: the `Plan` that its first part made.
    """

    steps_per_epoch: int | None
    first_step: int
    plan: Plan | None = None


@contextlib.contextmanager
def parts_of(model: Detector, training: WholeTraining) -> Iterator[None]:
    """Within it each `fit` of a model is a part of one `WholeTraining` and follows its plan."""
    model.whole_training = training
    try:
        yield
    finally:
        model.whole_training = None


def first_step(iterations: int, initial_epoch: int, steps_per_epoch: int) -> int:
    """`optimizer.iterations` where the training began that `fit` begins or goes on with.

    With an `initial_epoch` it goes on: its steps are those of the epochs before, and the steps of
    an epoch that was interrupted, which is done again. What is beyond was another training, as is
    all that was done before a `fit` from epoch 0.
    """
    before = iterations - initial_epoch * steps_per_epoch
    return before if initial_epoch == 0 or before >= steps_per_epoch else 0
