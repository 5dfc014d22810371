"""A functional model that, on PyTorch, forgets each map after the last layer that reads it."""

import collections

import keras

from keras_gflv2.layers.batch_normalization import BatchNormalization, RunningBatchNormalization
from keras_gflv2.layers.overwriting import Add, ReLU

# Layers that can overwrite their last input, and those whose output is no view of anything.
OVERWRITE = (Add, ReLU)
MAKE_NEW_MAPS = (Add, BatchNormalization, RunningBatchNormalization)


class FrugalModel(keras.Model):
    """A functional model whose maps live no longer than they are needed.

    Keras keeps what every layer returned until the model has returned. A graph compiler sees what
    is not needed; PyTorch, step by step, does not, and inference took five times the memory.
    """

    def _run_through_graph(self, inputs, *args, **kwargs):
        # Without it, the constructor only looks whether the outputs can be reached.
        if keras.backend.backend() != "torch" or "operation_fn" not in kwargs:
            return super()._run_through_graph(inputs, *args, **kwargs)
        return _run(self, keras.tree.flatten(inputs), kwargs["operation_fn"])


def _run(model, inputs, operation_fn):
    """What `keras.Function` does with its nodes, and forgets maps."""
    depths = sorted(model._nodes_by_depth, reverse=True)
    nodes = [n for depth in depths for n in model._nodes_by_depth[depth] if not n.is_input]
    readers = collections.Counter(id(x) for node in nodes for x in node.input_tensors)
    readers.update(id(x) for x in model.outputs)
    new_maps = {
        id(x) for node in nodes if isinstance(node.operation, MAKE_NEW_MAPS) for x in node.outputs
    }
    left = readers.copy()
    maps = dict(zip((id(x) for x in model.inputs), inputs))
    for node in nodes:
        args, kwargs = node.arguments.fill_in(maps)
        *_, last = map(id, node.input_tensors)
        if isinstance(node.operation, OVERWRITE) and last in new_maps and readers[last] == 1:
            kwargs = {**kwargs, "overwrite": True}
        results = operation_fn(node.operation)(*args, **kwargs)
        del args, kwargs
        for tensor in map(id, node.input_tensors):
            left[tensor] -= 1
            if not left[tensor]:
                del maps[tensor]
        maps.update(zip((id(x) for x in node.outputs), keras.tree.flatten(results)))
        del results
    return keras.tree.pack_sequence_as(model._outputs_struct, [maps[id(x)] for x in model.outputs])
