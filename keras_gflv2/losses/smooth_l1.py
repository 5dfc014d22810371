"""Smooth L1 loss: true and predicted numbers of boxes in, one loss per box out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.losses.precision import at_least_float32


@keras.saving.register_keras_serializable(package="keras_gflv2")
class SmoothL1Loss(keras.losses.Loss):
    """Smooth L1 loss (Girshick, 2015), summed over the coordinates.

    `d^2 / (2 beta)` of differences d below `beta`, `|d| - beta / 2` of larger ones.

    Args:
        beta: where the parabola ends; 0.11 in FoveaBox.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true, y_pred: (..., 4) targets and predictions, as numbers of the box representation.

    Returns (before the reduction): (...) losses.

    Raises:
        ValueError: `beta` is not positive. `L1Loss` is the limit of 0.

    >>> loss = keras_gflv2.losses.SmoothL1Loss(beta=1.0)
    >>> loss(np.array([[0.0, 0.0, 0.0, 0.0]]), np.array([[0.5, 2.0, 0.0, 0.0]]))    # 0.125 + 1.5
    """

    def __init__(
        self,
        beta: float = 0.11,
        reduction: str | None = "sum_over_batch_size",
        name: str = "smooth_l1_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if beta <= 0:
            raise ValueError(f"`beta` must be positive; got {beta}. For beta 0 use `L1Loss`.")
        self.beta = beta

    def call(self, y_true, y_pred):
        y_pred = at_least_float32(y_pred)
        distance = ops.absolute(y_pred - ops.cast(y_true, y_pred.dtype))
        # A minimum, and no square of large differences: it could overflow in a branch not taken.
        near = ops.minimum(distance, self.beta)
        return ops.sum(near * near / (2.0 * self.beta) + (distance - near), axis=-1)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta, "dtype": self.dtype}
