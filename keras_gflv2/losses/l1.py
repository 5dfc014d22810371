"""L1 loss: true and predicted numbers of boxes in, one loss per box out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType
from keras_gflv2.losses.precision import at_least_float32


@keras.saving.register_keras_serializable(package="keras_gflv2")
class L1Loss(keras.losses.Loss):
    """`|y - p|`, summed over the coordinates: the box loss of RetinaNet in the official code.

    Args:
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true, y_pred: (..., 4) targets and predictions, as numbers of the box representation.

    Returns (before the reduction): (...) losses.

    >>> loss = keras_gflv2.losses.L1Loss()
    >>> loss(np.array([[0.0, 1.0, 0.0, 0.0]]), np.array([[0.5, 0.0, 0.0, 0.0]]))    # 1.5
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "l1_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        y_pred = at_least_float32(y_pred)
        return ops.sum(ops.absolute(y_pred - ops.cast(y_true, y_pred.dtype)), axis=-1)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}
