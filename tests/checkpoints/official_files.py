"""Checkpoints as they are published: names and layout of the official implementations."""

import numpy as np
from common import to_numpy

from keras_gflv2.checkpoints.mmdetection import name_map


def save(path, checkpoint):
    """torch.save where there is PyTorch, else Paddle's form, which is read all the same."""
    try:
        import torch
    except ImportError:
        import pickle

        path.write_bytes(pickle.dumps(checkpoint, 4))
        return
    tensors = {key: torch.from_numpy(value) for key, value in checkpoint["state_dict"].items()}
    torch.save({**checkpoint, "state_dict": tensors}, path)


def state_of(model, background=1):
    """{official name: array in the official layout} of a detector, with background channels."""
    state = {}
    for key, variable in name_map(model):
        value = to_numpy(variable)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
        value = value.T[:, :, None, None] if value.ndim == 2 else value
        if background and key.startswith("bbox_head.gfl_cls"):
            value = np.concatenate([value, value[:1]])
        state[key] = np.ascontiguousarray(value)
    return state
