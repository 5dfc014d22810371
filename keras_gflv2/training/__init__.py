"""What keeps a training safe, shows how it goes, and gives it a teacher."""

import importlib

from keras_gflv2.optimizers import averaged_weights
from keras_gflv2.signals import TimeIsUp
from keras_gflv2.training.distillation import distill
from keras_gflv2.training.early_stopping import EarlyStopping
from keras_gflv2.training.experiment_logs import MLflowLog, WandbLog
from keras_gflv2.training.progress import Curves, EpochLog, Progress
from keras_gflv2.training.state import SaveState, fit, read_position

__all__ = [
    "Curves",
    "EarlyStopping",
    "EpochLog",
    "MLflowLog",
    "Progress",
    "SaveState",
    "TimeIsUp",
    "WandbLog",
    "averaged_weights",
    "distill",
    "fit",
    "read_position",
]


def __getattr__(name):
    if name == "DetectionImages":  # where version 0.1 had it
        return importlib.import_module("keras_gflv2.visualization").DetectionImages
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
