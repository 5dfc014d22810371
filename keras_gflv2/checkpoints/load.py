"""A dictionary or file of named arrays in, a model with these weights out."""

import numpy as np

from keras_gflv2.checkpoints import mmdetection


def load_checkpoint(model, source):
    """Loads the weights of an official GFLV2 checkpoint into `model`.

    Every weight must be there with its shape, and nothing may be left over. A classification
    convolution with one channel more than the model has classes, the official background channel,
    loses its last one.

    Args:
        model: a `GFLV2` whose shapes fit.
        source: dictionary of arrays by the official names, in PyTorch's layout, or the path of an
            .npz file of them.

    Returns:
        The model.

    Raises:
        ValueError: tensors are missing, left over or of another shape; all are named.
    """
    arrays = dict(source) if isinstance(source, dict) else dict(np.load(source))
    pairs = mmdetection.name_map(model)
    expected = {key for key, _ in pairs}
    problems = [f"missing: {key}" for key in expected if key not in arrays]
    problems += [
        f"left over: {key}"
        for key in arrays
        if key not in expected and not mmdetection.NOT_WEIGHTS.search(key)
    ]
    values = []
    for key, variable in pairs:
        if key not in arrays:
            continue
        value = to_keras_layout(np.asarray(arrays[key]), variable.shape)
        if "gfl_cls" in key and value.shape[-1] == model.num_classes + 1:
            value = value[..., :-1]  # the background channel
        if tuple(value.shape) != tuple(variable.shape):
            problems.append(f"shape of {key}: {value.shape}, the model's is {variable.shape}")
        values.append((variable, value))
    if problems:
        shown = "\n  ".join(problems[:20])
        raise ValueError(
            f"The checkpoint does not fit the model ({len(problems)} problems):\n  {shown}"
        )
    for variable, value in values:
        variable.assign(value)
    return model


def to_keras_layout(value, shape):
    """PyTorch's (out, in, kh, kw) -> Keras's (kh, kw, in, out), or (in, out) of a dense layer."""
    if value.ndim != 4:
        return value
    value = value.transpose(2, 3, 1, 0)
    return value[0, 0] if len(shape) == 2 else value
