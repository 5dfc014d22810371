"""What tests share: golden arrays of the official implementation and small models."""

import socket
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_gflv2

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared"


def golden(name):
    """One file of golden arrays: the package's copy, else the project's shared folder."""
    for path in (GOLDEN / name, SHARED / "golden" / name):
        if path.is_file():
            return np.load(path)
    pytest.skip(f"golden arrays {name} are not in tests/golden and {SHARED} is absent")


def nhwc(array):
    """(B, C, H, W) -> (B, H, W, C)"""
    return np.transpose(array, (0, 2, 3, 1))


def nchw(array):
    """(B, H, W, C) -> (B, C, H, W)"""
    return np.transpose(array, (0, 3, 1, 2))


def to_numpy(structure):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, structure)


def two_free_ports():
    """Ports of this machine that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("localhost", 0))
        other.bind(("localhost", 0))
        return one.getsockname()[1], other.getsockname()[1]


def tiny_backbone():
    """Five strided convolutions: a Keras model with pyramid outputs, quick to trace."""
    x = inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(x)
    outputs = {}
    for level, channels in enumerate((8, 16, 16, 16, 16), start=1):
        x = keras.layers.Conv2D(
            channels, 3, 2, "same", activation="relu", kernel_initializer="he_normal"
        )(x)
        if level >= 3:
            outputs[f"P{level}"] = x
    return keras.Model(inputs, outputs)


def small_model(num_classes=3, seed=0, backbone=None, **kwargs):
    """A detector that a test can afford to compile: a head of one convolution."""
    keras.utils.set_random_seed(seed)
    arguments = {
        "fpn_channels": 16,
        "head_channels": 16,
        "head_depth": 1,
        "head_norm_groups": 4,
        **kwargs,
    }
    return keras_gflv2.GFLV2(backbone or tiny_backbone(), num_classes, **arguments)


def random_batch(seed=0, batch=2, size=(96, 128), boxes=3, num_classes=3):
    """Images with some boxes (xyxy pixels) each; the last row of boxes is padding."""
    rng = np.random.default_rng(seed)
    height, width = size
    corner = rng.uniform(0, 0.6, (batch, boxes, 2)) * [width, height]
    extent = rng.uniform(0.2, 0.4, (batch, boxes, 2)) * [width, height]
    classes = rng.integers(0, num_classes, (batch, boxes))
    classes[:, -1] = -1
    return {
        "images": rng.uniform(0, 255, (batch, height, width, 3)).astype("float32"),
        "bounding_boxes": {
            "boxes": np.concatenate([corner, corner + extent], -1).astype("float32"),
            "classes": classes.astype("int32"),
        },
    }
