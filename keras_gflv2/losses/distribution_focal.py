"""Distribution Focal Loss: continuous targets and logits of a distribution in, losses out."""

import keras
from keras import ops

from keras_gflv2.annotations import DType


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DistributionFocalLoss(keras.losses.Loss):
    """Distribution Focal Loss (Generalized Focal Loss, Eq. 6).

    Cross-entropy with the two bins around the target, weighted by how near each is, so that the
    distribution gathers around the true distance.

    Args:
        reduction, name, dtype: as in `keras.losses.Loss`.

    Call arguments:
        y_true: (...) targets in bins, 0 <= y < n; values outside are clamped to 0..n - 0.1.
        y_pred: (..., n + 1) logits.

    Returns (before the reduction): (...) losses.

    >>> loss = keras_gflv2.losses.DistributionFocalLoss()
    >>> loss(np.array([3.4]), np.zeros((1, 17)))    # log(17)
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str = "distribution_focal_loss",
        dtype: DType = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        last_bin = y_pred.shape[-1] - 1
        y_true = ops.clip(ops.cast(y_true, y_pred.dtype), 0.0, last_bin - 0.1)
        # Hat function: 1 at the target, 0 one bin away. It is the weight of both neighbors.
        bins = ops.arange(last_bin + 1, dtype=y_pred.dtype)
        weights = ops.relu(1.0 - ops.absolute(bins - y_true[..., None]))  # (..., n + 1)
        return -ops.sum(weights * ops.log_softmax(y_pred, axis=-1), axis=-1)

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}
