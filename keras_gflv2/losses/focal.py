"""Focal Loss: classes and predicted logits in, one loss per location out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.losses.precision import at_least_float32
from keras_gflv2.losses.quality_focal import log_of


@keras.saving.register_keras_serializable(package="keras_gflv2")
class FocalLoss(keras.losses.Loss):
    """Focal Loss (Lin et al., 2017, Eq. 5): `-alpha_t * (1 - p_t)^gamma * log(p_t)`.

    The classes are independent of one another: p_t is the predicted probability of what is true,
    that the class is there or that it is not, and alpha_t is `alpha` or `1 - alpha`.

    Args:
        alpha: weight of what is there; `1 - alpha` is that of what is not.
        gamma: focusing exponent. 0 gives the weighted cross-entropy.
        from_logits: whether predictions are logits, which is the default here: unlike probabilities
            they keep their digits where the detector is sure.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true: (..., C) 1 for the class of the object and 0 for others; all 0 is background.
        y_pred: (..., C) predictions.

    Returns (before the reduction): (...) losses, summed over the classes.

    >>> loss = keras_gflv2.losses.FocalLoss()
    >>> loss(np.array([[1.0, 0.0]]), np.array([[0.0, -50.0]]))    # 0.25 * 0.5^2 * log(2)
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str = "focal_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if not 0 <= alpha <= 1 or gamma < 0:
            raise ValueError(
                f"`alpha` must be in 0..1 and `gamma` not negative; got {alpha} and {gamma}."
            )
        self.alpha = alpha
        self.gamma = gamma
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        y_pred = at_least_float32(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        if self.from_logits:
            present, absent = ops.softplus(-y_pred), ops.softplus(y_pred)  # -log p, -log(1 - p)
            probability = ops.sigmoid(y_pred)
        else:
            present, absent = -log_of(y_pred), -log_of(1.0 - y_pred)
            probability = y_pred
        cross_entropy = y_true * present + (1.0 - y_true) * absent
        wrong = y_true * (1.0 - probability) + (1.0 - y_true) * probability  # 1 - p_t
        weight = y_true * self.alpha + (1.0 - y_true) * (1.0 - self.alpha)
        return ops.sum(weight * self._focus(wrong) * cross_entropy, axis=-1)

    def _focus(self, wrong):
        if self.gamma == 2:
            return ops.square(wrong)
        # The slope of a power below 1 is infinite at 0.
        return ops.maximum(wrong, keras.config.epsilon()) ** self.gamma

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "gamma": self.gamma,
            "from_logits": self.from_logits,
            "dtype": self.dtype,
        }
