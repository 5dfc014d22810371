"""Averaged weights (EMA) in the place of the trained ones, for a while."""

import contextlib

import keras

from keras_gflv2.optimizers import averages


@contextlib.contextmanager
def averaged_weights(model):
    """Within it a model has the average of its weights, where its optimizer keeps one.

    `fit` puts the average into the model only when it ends: what is measured or saved before should
    be the average too. The optimizer may be wrapped, as mixed_float16 does.
    """
    # As keras.callbacks.SwapEMAWeights finds them.
    pairs = averages(getattr(model, "optimizer", None))
    trained = [keras.ops.convert_to_numpy(variable).copy() for variable, _ in pairs]
    for variable, average in pairs:
        # A copy: on JAX the two would share memory, which `predict` gives away.
        variable.assign(keras.ops.convert_to_numpy(average).copy())
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, trained):
            variable.assign(value)
