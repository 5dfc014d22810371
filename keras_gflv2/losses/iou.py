"""IoU loss: true and predicted boxes in, one loss per box out."""

import keras
from keras import ops

from keras_gflv2 import boxes
from keras_gflv2.annotations import DType
from keras_gflv2.losses.precision import at_least_float32

MODES = ("log", "linear")


@keras.saving.register_keras_serializable(package="keras_gflv2")
class IoULoss(keras.losses.Loss):
    """`-log(IoU)` of aligned boxes (UnitBox, Yu et al., 2016), as the first FCOS has it.

    Args:
        mode: "log" for -log(IoU), "linear" for 1 - IoU.
        epsilon: lower bound of the IoU, and of the areas that are divided by. Boxes that do not
            touch give -log(epsilon), without a gradient; `GIoULoss` has one there.
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true, y_pred: (..., 4) boxes, xyxy in any one unit.

    Returns (before the reduction): (...) losses.

    Raises:
        ValueError: an unknown `mode`.

    >>> loss = keras_gflv2.losses.IoULoss()
    >>> loss(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[0.0, 0.0, 2.0, 1.0]]))    # log(2)
    """

    def __init__(
        self,
        mode: str = "log",
        epsilon: float = 1e-6,
        reduction: str | None = "sum_over_batch_size",
        name: str = "iou_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if mode not in MODES:
            raise ValueError(f"`mode` must be one of {MODES}; got {mode!r}.")
        self.mode = mode
        self.epsilon = epsilon

    def call(self, y_true, y_pred):
        y_pred = at_least_float32(y_pred)
        iou = boxes.iou(y_pred, ops.cast(y_true, y_pred.dtype), self.epsilon)
        iou = ops.maximum(iou, self.epsilon)
        return -ops.log(iou) if self.mode == "log" else 1.0 - iou

    def get_config(self):
        return {
            **super().get_config(),
            "mode": self.mode,
            "epsilon": self.epsilon,
            "dtype": self.dtype,
        }
