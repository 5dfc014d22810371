"""Reading others' weights into our models, and handing ours on."""

from keras_gflv2.checkpoints.convert import convert
from keras_gflv2.checkpoints.download import DownloadError
from keras_gflv2.checkpoints.errors import CheckpointError
from keras_gflv2.checkpoints.hub import UploadError
from keras_gflv2.checkpoints.load import load_checkpoint
from keras_gflv2.checkpoints.model_card import model_card
from keras_gflv2.checkpoints.reading import read_checkpoint

__all__ = [
    "CheckpointError",
    "DownloadError",
    "UploadError",
    "convert",
    "load_checkpoint",
    "model_card",
    "read_checkpoint",
]
