"""Gradient checkpointing: maps inside the blocks of a backbone are computed again for gradients."""

import keras


class RecomputedBlocks:
    """Computes what a functional model does, block after block, and keeps only what is between.

    Args:
        model: a functional model with one input, which updates no variables when it is called.
        ends: names of the layers that end a block, in order. What is inside a block is read by no
            other block.

    Call argument: the input. Returns {name: map}, as the model does.
    """

    def __init__(self, model, ends):
        self._output_layers = dict(zip(model.output_names, model.output))
        self._blocks = []
        start = model.inputs[0]
        for name in ends:
            end = model.get_layer(name).output
            self._blocks.append((name, keras.Function(start, end)))
            start = end

    def __call__(self, x):
        outputs = {}
        for name, block in self._blocks:
            trains = any(getattr(op, "trainable_variables", ()) for op in block.operations)
            # What does not train needs no gradient, and keeps nothing.
            x = keras.remat(block)(x) if trains else block(x)
            if name in self._output_layers:
                outputs[self._output_layers[name]] = x
        return outputs
