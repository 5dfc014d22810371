"""Localization distillation: a frozen teacher shows a student how sure it is of each side."""

import contextlib
import hashlib

import keras
import numpy as np
from keras import ops

from keras_gflv2.annotations import Detector


def distill(
    student: Detector, teacher: Detector, temperature: float = 10.0, weight: float = 0.25
) -> None:
    """From now on `fit` also draws a student's side distributions to those of a teacher.

    Localization distillation (Zheng et al., 2022): one more term in the loss, logged as
    `localization_distillation_loss`: for each side of the positives
    T^2 KL(softmax(teacher / T) || softmax(student / T)), weighted and normalized like the
    distribution focal loss. The teacher sees the images of each batch in inference mode. It is not
    changed, and it is no part of the student: not of its weights, configuration or files. So a
    saved student no longer has one; call `distill` again to go on. `compile` ends it.

    Args:
        student: a compiled detector.
        teacher: a detector with the same representation and grid. Its classes may be others. With
            several devices, make it where the student is made (in the strategy's scope, after the
            distribution was set).
        temperature: T, positive.
        weight: of the term in the loss, on the mean of the four sides.

    Raises:
        ValueError: the student is not compiled, has no distributions, or shares weights with the
            teacher; the bins or the locations of the two differ; the temperature is not positive.

    >>> model.compile(recipe="scratch")
    >>> keras_gflv2.training.distill(model, teacher)
    >>> model.fit(train_ds)
    """
    _check(student, teacher)
    student.take_teacher(Teacher(teacher, student.criterion.distillation_term(temperature, weight)))


class Teacher:
    """A detector that another is trained towards. Not a layer: Keras must not track it.

    Args:
        detector: the teacher.
        term: the `DistillationTerm` of its outputs.

    Call argument: images (B, H, W, 3). Returns {"teacher_distributions": (B, A, 4, n + 1)}.
    """

    def __init__(self, detector, term):
        self.detector = detector
        self.term = term
        self._in_state = False

    def __call__(self, images):
        with _without_gradients():
            outputs = self.detector(images, training=False)
        raw = outputs[self.detector.representation.output_name]
        return {self.term.teacher_output: ops.stop_gradient(raw)}

    @property
    def state(self):
        """The teacher's variables, where they must be part of the state of the student's step.

        JAX takes what is not in it for constants, which each program would hold a copy of, and of
        which several machines could not share one.
        """
        return self.detector.variables if self._in_state else []

    @contextlib.contextmanager
    def in_state(self):
        """Within it, `state` has the variables, on JAX."""
        before, self._in_state = self._in_state, keras.backend.backend() == "jax"
        try:
            yield
        finally:
            self._in_state = before

    def identity(self):
        """What a training with this teacher must have in common with the one it goes on from."""
        content = hashlib.sha256()
        for variable in self.detector.weights:
            content.update(np.ascontiguousarray(ops.convert_to_numpy(variable)).tobytes())
        return [content.hexdigest()[:16], float(self.term.loss.temperature), self.term.weight]


def _check(student, teacher):
    if not student.compiled:
        raise ValueError("Compile the student first: `compile` chooses what it is trained towards.")
    name = student.representation.output_name
    if not student.representation.has_spread:
        raise ValueError(
            f"This {type(student).__name__} has no distributions to distill: its boxes are "
            f"{name!r}. Use GFLV2, GFLV1 or `distribution_guided=True`."
        )
    shared = {id(v) for v in student.variables} & {id(v) for v in teacher.variables}
    if shared:
        raise ValueError("Student and teacher share weights: the teacher would change with it.")
    for part in ("representation", "grid"):
        ours, theirs = (_plain_config(getattr(model, part)) for model in (student, teacher))
        differing = [k for k in {**ours, **theirs} if ours.get(k) != theirs.get(k)]
        if differing:
            raise ValueError(
                f"A teacher needs the student's {part}, location by location and bin by bin: "
                + "; ".join(
                    f"{key} is {ours.get(key)} of the student, {theirs.get(key)} of the teacher"
                    for key in differing
                )
                + "."
            )


def _plain_config(part):
    """The kind of a part, and what it was made with, but for layers without a choice."""
    config = {"kind": type(part).__name__, **part.get_config()}
    return {name: value for name, value in config.items() if name != "integral"}


def _without_gradients():
    """On PyTorch, keeps no maps for gradients that nobody asks for; elsewhere nothing is kept."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
