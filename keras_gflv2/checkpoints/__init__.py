"""Reading others' weights into our models."""

from keras_gflv2.checkpoints.load import load_checkpoint

__all__ = ["load_checkpoint"]
