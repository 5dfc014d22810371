"""GIoU loss: true and predicted boxes in, one loss a box out."""

import keras
from keras import ops

from keras_gflv2 import boxes
from keras_gflv2.annotations import DType


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GIoULoss(keras.losses.Loss):
    """`1 - GIoU` of aligned boxes (Rezatofighi et al., 2019).

    Args:
        epsilon: lower bound of the areas that are divided by, in squared units of the boxes.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true, y_pred: (..., 4) boxes, xyxy in any one unit.

    Returns (before the reduction): (...) losses in 0..2.

    >>> loss = keras_gflv2.losses.GIoULoss()
    >>> loss(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 0.0, 2.0, 1.0]]))    # 0.5
    """

    def __init__(
        self,
        epsilon: float = 1e-7,
        reduction: str | None = "sum_over_batch_size",
        name: str = "giou_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.epsilon = epsilon

    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        return 1.0 - boxes.giou(y_pred, ops.cast(y_true, y_pred.dtype), self.epsilon)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon, "dtype": self.dtype}
