"""Sums over the devices that train together."""

import contextlib

import keras


def number_of_replicas():
    """How many replicas run this step, of a TensorFlow strategy or a PyTorch process group."""
    context = _tensorflow_context()
    if context:
        return context.num_replicas_in_sync
    return torch_processes()


def sum_over_replicas(value):
    """The sum of a scalar over all replicas; itself where there is one. It has no gradient.

    On JAX a batch that is sharded over devices, of however many machines, is one array to the
    program, so that its sum is over all of them already.
    """
    context = _tensorflow_context()
    if context:
        return context.all_reduce("SUM", value)
    if torch_processes() > 1:
        import torch.distributed

        value = value.detach().clone()
        torch.distributed.all_reduce(value)
    return value


def loss_in_logs(part):
    """What a replica's part of a loss counts as in its logs: the whole, in the mean over them."""
    if torch_processes() > 1:  # whose logs nobody takes the mean of
        return sum_over_replicas(part)
    return part * number_of_replicas()


def torch_processes():
    """How many PyTorch processes train together."""
    if keras.backend.backend() != "torch":
        return 1
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def replica_scope(model):
    """Context in which variables are made for all replicas of a model."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy else contextlib.nullcontext()


def replica_logs(logs):
    """The logs of a step in the form in which Keras can reduce them.

    Under MultiWorkerMirroredStrategy it takes a mean along the first axis, which a scalar has not.
    """
    context = _tensorflow_context()
    if context is None or not context.strategy.extended._in_multi_worker_mode():
        return logs
    return keras.tree.map_structure(lambda value: value[None], logs)


def _tensorflow_context():
    """TensorFlow's replica context inside a strategy of several replicas, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if not tf.distribute.has_strategy() or tf.distribute.in_cross_replica_context():
        return None
    context = tf.distribute.get_replica_context()
    return context if context.num_replicas_in_sync > 1 else None
