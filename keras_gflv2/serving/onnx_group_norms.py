"""Group normalizations of an ONNX graph, each as one operator with channels first.

Keras computes one in a dozen operations on (B, H, W, groups, channels of a group), which
onnxruntime runs one after the other over short last axes.
"""

import numpy as np
from onnx import helper, numpy_helper

AXES = [1, 2, 4]  # of a group, in (B, H, W, groups, channels of a group)
CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def fuse_group_norms(model):
    """The model with each group normalization that is found as `InstanceNormalization` of groups.

    What looks different stays as it is.
    """
    from tf2onnx.graph import GraphUtil

    graph = _Graph(model.graph)
    for index in reversed(range(len(model.graph.node))):
        found = _group_norm(graph, model.graph.node[index])
        if found:
            nodes = _fused(graph, model.graph.node[index].output[0], *found)
            del model.graph.node[index]
            for node in reversed(nodes):
                model.graph.node.insert(index, node)
    return GraphUtil.optimize_model_proto(model)


class _Graph:
    """Which node makes a value, and which values are constants."""

    def __init__(self, graph):
        self.producers = {output: node for node in graph.node for output in node.output}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.graph = graph

    def inputs(self, name, kind):
        """Inputs of the node that makes a value, which must be of a kind; otherwise KeyError."""
        node = self.producers[name]
        if node.op_type != kind:
            raise KeyError(name)
        return node.input

    def constant(self, name):
        return numpy_helper.to_array(self.constants[name])

    def add(self, name, value):
        """A constant's name."""
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name


def _group_norm(graph, node):
    """(input, gamma, beta, epsilon) if the node is the last one of a group normalization."""
    if node.op_type != "Reshape":
        return None
    try:
        scaled, shift = graph.inputs(node.input[0], "Add")
        groups, factor = graph.inputs(scaled, "Mul")
        _, beta = graph.inputs(shift, "Add")
        deviation, gamma = graph.inputs(factor, "Mul")
        root = graph.inputs(deviation, "Reciprocal")[0]
        variance, epsilon = graph.inputs(graph.inputs(root, "Sqrt")[0], "Add")
        squares, axes = graph.inputs(variance, "ReduceMean")
        difference, _ = graph.inputs(squares, "Mul")
        if graph.inputs(difference, "Sub")[0] != groups or list(graph.constant(axes)) != AXES:
            return None
        source = graph.inputs(groups, "Reshape")[0]
        values = [graph.constant(name) for name in (gamma, beta, epsilon)]
    except (KeyError, ValueError):
        return None
    return source, *values


def _fused(graph, output, source, gamma, beta, epsilon):
    """Nodes from a value (B, H, W, C) to its normalization."""
    count, nodes = gamma.shape[3], []
    vectors = {
        "gamma": gamma.reshape(-1, 1, 1),
        "beta": beta.reshape(-1, 1, 1),
        "ones": np.ones(count, "float32"),
        "zeros": np.zeros(count, "float32"),
        "groups": np.array([0, count, -1], "int64"),
    }
    vectors = {name: graph.add(f"{output}/{name}", value) for name, value in vectors.items()}

    def make(kind, *inputs, **attributes):
        name = f"{output}/{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    x = make("Transpose", source, perm=CHANNELS_FIRST)
    groups = make("Reshape", x, vectors["groups"])
    groups = make(
        "InstanceNormalization", groups, vectors["ones"], vectors["zeros"], epsilon=float(epsilon)
    )
    x = make("Reshape", groups, make("Shape", x))
    x = make("Add", make("Mul", x, vectors["gamma"]), vectors["beta"])
    nodes.append(helper.make_node("Transpose", [x], [output], perm=CHANNELS_LAST))
    return nodes
