"""What Keras's optimizers hold beside their configuration: wrappers, averages, exclusions."""

import contextlib
from collections.abc import Iterator

import keras

from keras_gflv2.annotations import Detector


def inner_optimizer(optimizer):
    """The optimizer that updates the weights: inside a `LossScaleOptimizer`, or itself."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def build_optimizer(optimizer, variables):
    """Makes an optimizer's variables; averages of weights start out as the weights.

    In Keras they start at zero. Where every step so far was skipped, as a `LossScaleOptimizer` does
    with gradients that overflow, the end of `fit` would put the zeros into the model.
    """
    optimizer.build(variables)
    for variable, average in averages(optimizer):
        # A copy: on JAX the two would share memory, which a step gives away.
        average.assign(keras.ops.convert_to_numpy(variable).copy())


def order_like_weights(optimizer):
    """Gives what an optimizer keeps of each weight that weight's order in memory, on PyTorch.

    Kernels have one of their own (`layers.torch_ops`), and operations on tensors of different
    orders are ten times slower. What an optimizer computes is the same in any order.
    """
    optimizer = inner_optimizer(optimizer)
    variables = optimizer._trainable_variables
    for kept in list(vars(optimizer).values()):
        if kept is variables or not isinstance(kept, list) or len(kept) != len(variables):
            continue
        for variable, own in zip(variables, kept):
            if getattr(own, "shape", None) == variable.shape:
                ordered = variable.value.detach().clone()  # which keeps the order
                own.value.data = ordered.to(own.value.dtype).copy_(own.value)


def averages(optimizer):
    """Pairs of a variable and its average; none where the optimizer does not average."""
    optimizer = inner_optimizer(optimizer)
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return []
    pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average)
    return [(variable, average) for variable, average in pairs if average is not None]


@contextlib.contextmanager
def averaged_weights(model: Detector) -> Iterator[None]:
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


def separate_averages(optimizer):
    """Gives averages memory of their own, where the end of `fit` has put them into the model.

    On JAX variable and average are one array then, and a step gives away the arrays it gets: the
    next `fit` would hand it over twice, and `predict` would delete the average.
    """
    for variable, average in averages(optimizer):
        if variable.value is average.value:
            average.assign(keras.ops.copy(average.value))


def variable_settings(optimizer, model):
    """What an optimizer knows of single variables of a model, as indices of `model.variables`.

    Returns:
        {"built": whether it has variables, "trained": [...] or None where they are the model's
        `trainable_variables`, "without_weight_decay": [...], "without_weight_decay_pattern": str or
        None}
    """
    optimizer = inner_optimizer(optimizer)
    excluded = getattr(optimizer, "_exclude_from_weight_decay", ())
    pattern = getattr(optimizer, "_exclude_from_weight_decay_pattern", None)
    indices = {id(variable): i for i, variable in enumerate(model.variables)}
    trained = [indices.get(id(v)) for v in optimizer._trainable_variables]
    trainable = [indices[id(v)] for v in model.trainable_variables]
    return {
        "built": optimizer.built,
        "trained": None if None in trained or trained == trainable else trained,
        "without_weight_decay": [
            i
            for i, variable in enumerate(model.variables)
            if optimizer._var_key(variable) in excluded
        ],
        "without_weight_decay_pattern": pattern and pattern.pattern,
    }


def restore_variable_settings(optimizer, model, settings):
    """Gives a new optimizer what `variable_settings` returned of another, and its variables."""
    variables = model.variables
    inner = inner_optimizer(optimizer)
    excluded = [variables[i] for i in settings["without_weight_decay"]]
    pattern = settings["without_weight_decay_pattern"]
    if excluded or pattern:
        inner.exclude_from_weight_decay(excluded, pattern and [pattern])
    if not settings["built"]:
        return
    trained = settings["trained"]
    if trained is not None:
        trained = [variables[i] for i in trained]
    build_optimizer(optimizer, model.trainable_variables if trained is None else trained)
