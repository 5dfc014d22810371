"""Generalized Focal Loss V2 for Keras 3: the public names.

They are imported at first use. Until then neither Keras nor TensorFlow is imported and no backend
is chosen; `registration` has Keras find the classes of saved detectors all the same.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

from keras_gflv2.registration import import_classes_when_needed

if TYPE_CHECKING:
    from keras_gflv2 import (
        assigners,
        backbones,
        checkpoints,
        data,
        evaluation,
        layers,
        losses,
        postprocessing,
        recipes,
        representations,
        serving,
        training,
        visualization,
    )
    from keras_gflv2.grid import AnchorGrid
    from keras_gflv2.models import ATSS, FCOS, GFLV1, GFLV2, DenseDetector, FoveaBox, RetinaNet

__version__ = "0.1.0"

__all__ = [
    "ATSS",
    "FCOS",
    "GFLV1",
    "GFLV2",
    "AnchorGrid",
    "DenseDetector",
    "FoveaBox",
    "RetinaNet",
    "assigners",
    "backbones",
    "checkpoints",
    "data",
    "evaluation",
    "layers",
    "losses",
    "postprocessing",
    "recipes",
    "representations",
    "serving",
    "training",
    "visualization",
]


def __getattr__(name):
    if name in __all__ and name[0].isupper():
        home = "grid" if name == "AnchorGrid" else "models"
        return getattr(importlib.import_module(f"keras_gflv2.{home}"), name)
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        return importlib.import_module(f"keras_gflv2.{name}")
    raise AttributeError(f"module 'keras_gflv2' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})


import_classes_when_needed()
