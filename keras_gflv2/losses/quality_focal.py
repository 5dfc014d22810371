"""Quality Focal Loss: soft quality targets and predicted scores in, one loss a location out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType

# The logarithm of a probability that rounds to 0 is bounded as PyTorch bounds it.
LOWEST_LOG = -100.0


def log_of(probability):
    """log(p), and -100 with zero gradient where p is 0."""
    positive = probability > 0.0
    safe = ops.where(positive, probability, 1.0)
    return ops.where(positive, ops.log(safe), LOWEST_LOG)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class QualityFocalLoss(keras.losses.Loss):
    """Quality Focal Loss (Generalized Focal Loss, Eq. 2): `|y - p|^beta * BCE(p, y)`.

    Targets are the IoU of the predicted box at the object's class and 0 elsewhere, so that one
    number says both "is it this class" and "how well is it located".

    Args:
        beta: focusing exponent, 2 in the paper.
        from_logits: whether predictions are logits. GFLV2's joint score is a probability already.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true: (..., C) targets in 0..1.
        y_pred: (..., C) predictions.

    Returns (before the reduction): (...) losses, summed over the classes.

    >>> loss = keras_gflv2.losses.QualityFocalLoss()
    >>> loss(np.array([[0.8, 0.0]]), np.array([[0.6, 0.1]]))    # 0.02473
    """

    def __init__(
        self,
        beta: float = 2.0,
        from_logits: bool = False,
        reduction: str | None = "sum_over_batch_size",
        name: str = "quality_focal_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.beta = beta
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        if self.from_logits:
            cross_entropy = ops.relu(y_pred) - y_pred * y_true + ops.softplus(-ops.absolute(y_pred))
            probability = ops.sigmoid(y_pred)
        else:
            cross_entropy = -(y_true * log_of(y_pred) + (1.0 - y_true) * log_of(1.0 - y_pred))
            probability = y_pred
        distance = ops.absolute(y_true - probability)
        focus = ops.square(distance) if self.beta == 2 else distance**self.beta
        return ops.sum(focus * cross_entropy, axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "beta": self.beta,
            "from_logits": self.from_logits,
            "dtype": self.dtype,
        }
