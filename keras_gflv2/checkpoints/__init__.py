"""Reading others' weights into our models."""

from keras_gflv2.checkpoints.convert import convert
from keras_gflv2.checkpoints.download import DownloadError
from keras_gflv2.checkpoints.errors import CheckpointError
from keras_gflv2.checkpoints.load import load_checkpoint
from keras_gflv2.checkpoints.reading import read_checkpoint

__all__ = ["CheckpointError", "DownloadError", "convert", "load_checkpoint", "read_checkpoint"]
