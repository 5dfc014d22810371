"""Group normalizations of an OpenVINO model, each as the operator that OpenVINO has for it."""

import numpy as np
from openvino import opset15 as ops

AXES = [1, 2, 4]  # of a group, in (B, H, W, groups, channels of a group)


def fuse_group_norms(model):
    """Changes a model: each of Keras's group normalizations becomes `GroupNormalization`.

    What looks different stays as it is.
    """
    for node in model.get_ordered_ops():
        found = _group_norm(node)
        if found:
            source, gamma, beta, epsilon = found
            channels_first = ops.transpose(source, _integers([0, 3, 1, 2]))
            normalized = ops.group_normalization(
                channels_first,
                ops.constant(gamma.reshape(-1)),
                ops.constant(beta.reshape(-1)),
                gamma.shape[3],
                float(epsilon.reshape(())),
            )
            result = ops.transpose(normalized, _integers([0, 2, 3, 1]))
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(result.output(0))


def _group_norm(node):
    """(input, gamma, beta, epsilon) if the node is the last one of a group normalization."""
    try:
        scaled, shift = _inputs(_inputs(node, "Reshape")[0], "Add")
        groups, factor = _inputs(scaled, "Multiply")
        beta = _inputs(shift, "Add")[1]
        deviation, gamma = _inputs(factor, "Multiply")
        variance, epsilon = _inputs(_inputs(deviation, "Power")[0], "Add")
        squares, axes = _inputs(variance, "ReduceMean")
        if _inputs(squares, "SquaredDifference")[0] != groups or list(axes.data) != AXES:
            return None
        return _inputs(groups, "Reshape")[0], gamma.data, beta.data, epsilon.data
    except (LookupError, AttributeError, ValueError):
        return None


def _inputs(node, kind):
    """The nodes that a node reads, if it is of a kind."""
    if node.get_type_name() != kind:
        raise LookupError(kind)
    return [value.get_node() for value in node.input_values()]


def _integers(values):
    return ops.constant(np.array(values, "int64"))
