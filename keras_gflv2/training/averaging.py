"""Averaged weights (EMA) in the place of the trained ones, for a while."""

import contextlib

import keras


@contextlib.contextmanager
def averaged_weights(model):
    """Within it a model has the average of its weights, where its optimizer keeps one.

    `fit` puts the average into the model only when it ends: what is measured or saved before should
    be the average too.
    """
    optimizer = getattr(model, "optimizer", None)
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        yield
        return
    # As keras.callbacks.SwapEMAWeights finds them.
    pairs = list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average))
    trained = [keras.ops.convert_to_numpy(variable).copy() for variable, _ in pairs]
    for variable, average in pairs:
        # A copy: on JAX the two would share memory, which `predict` gives away.
        variable.assign(keras.ops.convert_to_numpy(average).copy())
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, trained):
            variable.assign(value)
