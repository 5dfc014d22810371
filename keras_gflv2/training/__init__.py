"""What keeps a training safe and shows how it goes: callbacks for `fit`."""

from keras_gflv2.training.averaging import averaged_weights
from keras_gflv2.training.progress import Curves, DetectionImages, EpochLog, Progress
from keras_gflv2.training.state import SaveState, fit, read_position

__all__ = [
    "Curves",
    "DetectionImages",
    "EpochLog",
    "Progress",
    "SaveState",
    "averaged_weights",
    "fit",
    "read_position",
]
