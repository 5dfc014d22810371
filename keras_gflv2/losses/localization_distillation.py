"""Localization distillation: logits of a teacher and a student in, losses out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType


@keras.saving.register_keras_serializable(package="keras_gflv2")
class LocalizationDistillationLoss(keras.losses.Loss):
    """How far a side's distribution is from that of a teacher (Zheng et al., 2022, section 3.2).

    T^2 KL(softmax(teacher / T) || softmax(student / T)): the temperature T lets the student see
    how unsure the teacher is about the bins next to the best, and T^2 keeps the gradient's size.

    Args:
        temperature: T, positive.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true: (..., n + 1) logits of the teacher, to which no gradient flows.
        y_pred: (..., n + 1) logits of the student.

    Returns (before the reduction): (...) losses.

    Raises:
        ValueError: the temperature is not positive.

    >>> loss = keras_gflv2.losses.LocalizationDistillationLoss(temperature=1.0)
    >>> loss([[0.0, 0.0]], [[0.0, np.log(3.0)]])    # log(2 / sqrt(3))
    """

    def __init__(
        self,
        temperature: float = 10.0,
        reduction: str | None = "sum_over_batch_size",
        name: str = "localization_distillation_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive, got {temperature}.")
        self.temperature = temperature

    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.stop_gradient(ops.cast(y_true, y_pred.dtype))
        teacher = ops.log_softmax(y_true / self.temperature, axis=-1)
        student = ops.log_softmax(y_pred / self.temperature, axis=-1)
        divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
        return divergence * self.temperature**2

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature, "dtype": self.dtype}
