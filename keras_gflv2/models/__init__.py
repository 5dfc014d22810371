"""The detector: composition of backbone, pyramid, head, losses and decoding."""

from keras_gflv2.models.gflv2 import GFLV2

__all__ = ["GFLV2"]
