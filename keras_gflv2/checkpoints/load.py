"""A file or dictionary of named arrays in, a model with these weights out."""

from typing import Any

import numpy as np

from keras_gflv2.annotations import Array, PathLike
from keras_gflv2.checkpoints import mmdetection, paddledetection, torchvision
from keras_gflv2.checkpoints.errors import CheckpointError, shorten
from keras_gflv2.checkpoints.pickle_values import ARRAY_KINDS
from keras_gflv2.checkpoints.reading import read_checkpoint

SOURCES = (mmdetection, paddledetection, torchvision)
MAX_PROBLEMS_SHOWN = 20


def load_checkpoint(model: Any, source: PathLike | dict[str, Array]) -> Any:
    """Loads the weights of an official checkpoint into `model`.

    Every weight must be there with its shape, and nothing may be left over. A classification
    convolution with one channel more than the model has classes, the background channel of
    mmdetection and PaddleDetection, loses its last one.

    Args:
        model: a dense detector whose parts and shapes fit, for files of mmdetection or
            PaddleDetection; or a backbone, for ImageNet classifiers of torchvision.
        source: path of a file that `read_checkpoint` reads, or a dictionary of arrays by the
            official names, in the official layouts.

    Returns:
        The model.

    Raises:
        CheckpointError: (a ValueError) tensors are missing, left over or of another shape; all are
            named. Or the file cannot be read.
    """
    arrays = dict(source) if isinstance(source, dict) else read_checkpoint(source)
    names = find_source(arrays)
    pairs = names.name_map(model)
    expected = {key for key, _ in pairs}
    problems = [f"missing: {key}" for key in sorted(expected - set(arrays))]
    problems += [
        f"left over: {key}"
        for key in arrays
        if key not in expected and not names.NOT_WEIGHTS.search(key)
    ]
    values = []
    for key, variable in pairs:
        if key not in arrays:
            continue
        value = np.asarray(arrays[key])
        if value.dtype.kind not in ARRAY_KINDS:
            problems.append(f"no numbers: {key}")
            continue
        value = to_keras_layout(value, variable.shape)
        if key in names.CLASSIFICATION and value.shape[-1:] == (model.num_classes + 1,):
            value = value[..., :-1]
        if tuple(value.shape) != tuple(variable.shape):
            problems.append(f"shape of {key}: {value.shape}, the model's is {variable.shape}")
        elif not _all_finite(value):
            problems.append(f"not finite in float32: {key}")
        values.append((variable, value))
    if problems:
        shown = "\n  ".join(problems[:MAX_PROBLEMS_SHOWN])
        raise CheckpointError(
            f"The checkpoint of {names.SOURCE} does not fit the model ({len(problems)} problems):"
            f"\n  {shown}"
        )
    for variable, value in values:
        variable.assign(value)
    return model


def _all_finite(value):
    with np.errstate(over="ignore"):
        return np.all(np.isfinite(value.astype("float32")))


def find_source(arrays):
    """Which module of names a checkpoint follows.

    Raises:
        CheckpointError: none of those known.
    """
    for names in SOURCES:
        if any(marker in arrays for marker in names.MARKERS):
            return names
    known = ", ".join(names.SOURCE for names in SOURCES)
    raise CheckpointError(
        f"The checkpoint has the names of none of: {known}. Its first are "
        f"{[shorten(key) for key in list(arrays)[:5]]}."
    )


def to_keras_layout(value, shape):
    """PyTorch's (out, in, kh, kw) -> Keras's (kh, kw, in, out), or (in, out) of a dense layer."""
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
        return value[0, 0] if len(shape) == 2 else value
    # Paddle's scales of the levels have the shape (1,).
    return value.reshape(()) if value.shape == (1,) and len(shape) == 0 else value
