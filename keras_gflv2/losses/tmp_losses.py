import keras
from keras import ops
from keras_gflv2 import boxes


@keras.saving.register_keras_serializable(package="keras_gflv2")
class FocalLoss(keras.losses.Loss):
    def __init__(self, alpha=0.25, gamma=2.0, from_logits=True, reduction="sum_over_batch_size", name="focal_loss", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha, self.gamma, self.from_logits = alpha, gamma, from_logits

    def call(self, y_true, y_pred):
        p = ops.sigmoid(y_pred)
        pt = (1 - p) * y_true + p * (1 - y_true)
        w = (self.alpha * y_true + (1 - self.alpha) * (1 - y_true)) * pt**self.gamma
        ce = ops.relu(y_pred) - y_pred * y_true + ops.softplus(-ops.absolute(y_pred))
        return ops.sum(w * ce, -1)


class SmoothL1Loss(keras.losses.Loss):
    def __init__(self, beta=0.11, **k):
        super().__init__(**k)
        self.beta = beta

    def call(self, y_true, y_pred):
        d = ops.absolute(y_pred - y_true)
        return ops.sum(ops.where(d < self.beta, 0.5 * d * d / self.beta, d - 0.5 * self.beta), -1)


class L1Loss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.sum(ops.absolute(y_pred - y_true), -1)


class IoULoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return -ops.log(ops.maximum(boxes.iou(y_pred, y_true), 1e-6))
