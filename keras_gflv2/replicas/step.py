"""Inside a step: how many replicas run it, and sums and means over them.

Only the backend decides how: nothing here knows a model.
"""

import functools

import keras

from keras_gflv2.replicas.processes import torch_processes


def number_of_replicas():
    """How many replicas run this step, of a TensorFlow strategy or a PyTorch process group."""
    context = _tensorflow_context()
    if context:
        return context.num_replicas_in_sync
    return torch_processes()


def sum_over_replicas(value):
    """The sum of a scalar over all replicas; itself where there is one. It has no gradient."""
    context = _tensorflow_context()
    if context:
        return context.all_reduce("SUM", value)
    if torch_processes() > 1:
        import torch.distributed

        value = value.detach().clone()
        torch.distributed.all_reduce(value)
    return value


def mean_over_replicas(value):
    """The mean of a tensor over all replicas, through which gradients flow to all of them."""
    context = _tensorflow_context()
    if context:
        return context.all_reduce("MEAN", value)
    if torch_processes() > 1:
        return _torch_sum()(value) / torch_processes()
    return value


@functools.cache
def _torch_sum():
    """Sum over PyTorch's processes as a function with a gradient, which is a sum over them too."""
    import torch.distributed

    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(context, value):
            total = value.clone()
            torch.distributed.all_reduce(total)
            return total

        @staticmethod
        def backward(context, gradient):
            return Sum.forward(context, gradient)

    return Sum.apply


def loss_in_logs(part):
    """What a replica's part of a loss counts as in its logs: the whole, in the mean over them."""
    if torch_processes() > 1:  # whose logs nobody takes the mean of
        return sum_over_replicas(part)
    return part * number_of_replicas()


def replica_logs(logs):
    """The logs of a step in the form in which Keras can reduce them.

    Under MultiWorkerMirroredStrategy it takes a mean along the first axis, which a scalar has not.
    """
    context = _tensorflow_context()
    if context is None or not is_multi_worker(context.strategy):
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


def is_multi_worker(strategy):
    """Whether a TensorFlow strategy spans several processes."""
    return strategy is not None and strategy.extended._in_multi_worker_mode()
