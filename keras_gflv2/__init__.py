"""Generalized Focal Loss V2 for Keras 3: the public names."""

import importlib

from keras_gflv2 import (
    assigners,
    backbones,
    checkpoints,
    layers,
    losses,
    postprocessing,
    recipes,
    representations,
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

# Loaded at first use: they bring tensorflow, pycocotools or drawing, which a model does not need.
_LAZY = {"data", "evaluation", "serving", "training", "visualization"}


def __getattr__(name):
    if name in _LAZY:
        return importlib.import_module(f"keras_gflv2.{name}")
    raise AttributeError(f"module 'keras_gflv2' has no attribute {name!r}")
