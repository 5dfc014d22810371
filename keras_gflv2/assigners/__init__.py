"""Which locations answer for which boxes in training."""

from keras_gflv2.assigners.assigner import Assigner
from keras_gflv2.assigners.atss import ATSSAssigner

__all__ = ["ATSSAssigner", "Assigner"]
