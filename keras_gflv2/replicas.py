"""The devices and processes that train together: who they are, and sums over them.

A replica is one copy of the model that sees its part of each batch: a device of a TensorFlow
strategy, or a process of PyTorch's process group. On JAX a batch that is sharded over devices, of
however many machines, is one array to the program: there is one replica, whose sums are over all.
"""

import contextlib
import functools
import json
import os

import keras
import numpy as np

# === Inside a step ===


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


# === Processes ===


def process_position():
    """(index, count) of this process among those that train together; (0, 1) of one alone."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.process_index(), jax.process_count()
    if backend == "torch":
        if torch_processes() == 1:
            return 0, 1
        import torch.distributed

        return torch.distributed.get_rank(), torch_processes()
    configuration = json.loads(os.environ.get("TF_CONFIG") or "{}")
    workers = configuration.get("cluster", {}).get("worker", [])
    return (int(configuration["task"]["index"]), len(workers)) if len(workers) > 1 else (0, 1)


def processes_of(dataset):
    """In how many processes a step has other images than those of this dataset."""
    count = getattr(dataset, "shard_position", (0, 1))[1]
    if count > 1 or keras.backend.backend() == "tensorflow":
        return count
    distribution = None
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
    divides_itself = distribution is not None and distribution.auto_shard_dataset
    return 1 if divides_itself else process_position()[1]


def is_chief():
    """Whether this process is the one that writes files and measures."""
    return process_position()[0] == 0


def torch_processes():
    """How many PyTorch processes train together."""
    if keras.backend.backend() != "torch":
        return 1
    import torch.distributed

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def from_chief(model, values):
    """What the first process has, in all of them; each waits here for it.

    Args:
        model: the one that they train.
        values: list of floats, of the same length in all processes.

    Returns:
        List of floats, rounded to float32 where there are several processes.
    """
    index, count = process_position()
    if count == 1:
        return list(values)
    array = np.float32(values if index == 0 else [0.0] * len(values))
    backend = keras.backend.backend()
    if backend == "jax":
        from jax.experimental import multihost_utils

        return multihost_utils.broadcast_one_to_all(array).tolist()
    if backend == "torch":
        import torch.distributed

        tensor = torch.from_numpy(array).to(model.trainable_variables[0].value.device)
        torch.distributed.broadcast(tensor, 0)
        return tensor.cpu().tolist()
    import tensorflow as tf

    strategy = model.distribute_strategy
    replicas = tf.constant(strategy.num_replicas_in_sync // count, "float32")
    part = tf.constant(array) / replicas

    @tf.function
    def sums():
        return strategy.run(
            lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(part))
        )

    return strategy.experimental_local_results(sums())[0].numpy().tolist()


def wait_for_all(model):
    """Returns when every process has come here."""
    from_chief(model, [0.0])


# === Outside of a step ===


def replica_scope(model):
    """Context in which variables are made for all replicas of a model."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy else contextlib.nullcontext()


def share_dataset(model, dataset):
    """What Keras's `fit` wants of a dataset that has this process's part of each batch alone.

    Args:
        model: the one to train.
        dataset: anything that `fit` takes; without an attribute `shard_position` it stays as it is.

    Raises:
        ValueError: on JAX, where no distribution tells the processes of each other.
    """
    count = getattr(dataset, "shard_position", (0, 1))[1]
    if count == 1:
        return dataset
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        if distribution is None:
            raise ValueError(
                f"{count} processes run, but each would train alone. Before the model is made: "
                "keras.distribution.set_distribution(keras.distribution.DataParallel())"
            )
        distribution.auto_shard_dataset = False  # it would be divided a second time
    if keras.backend.backend() != "tensorflow":
        return dataset
    strategy = model.distribute_strategy
    local_replicas = strategy.num_replicas_in_sync // count
    if local_replicas > 1:
        # Of unknown length then: Keras takes batches for steps, of which each has one a replica.
        images = keras.tree.flatten(dataset.element_spec)[0].shape[0]
        dataset = dataset.rebatch(images // local_replicas, drop_remainder=True)
    return strategy.distribute_datasets_from_function(lambda context: dataset)


def batch_divisor(model):
    """(count, exact): of how many images a batch must be a multiple, or (not exact) have at least.

    Of several processes, those that each reads. A batch that the devices cannot share breaks off
    in the midst of their communication.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        replicas = model.distribute_strategy.num_replicas_in_sync
        return max(replicas // process_position()[1], 1), False
    if backend == "jax":
        import jax

        distribution = keras.distribution.distribution()
        if distribution is not None and distribution.batch_dim_name:
            mesh = distribution.device_mesh
            devices = mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]
            return max(devices // jax.process_count(), 1), True
    return 1, False


def is_multi_worker(strategy):
    """Whether a TensorFlow strategy spans several processes."""
    return strategy is not None and strategy.extended._in_multi_worker_mode()


def is_spread(model):
    """Whether Keras would split a batch of `predict_on_batch` among several devices."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync > 1
    if backend == "jax":
        on_several = len(model.variables[0].value.sharding.device_set) > 1
        return on_several or keras.distribution.distribution() is not None
    return False


@contextlib.contextmanager
def in_this_process():
    """Context for what one process does alone, such as saving.

    Keras makes variables when it saves the first time. With a distribution on JAX, of several
    processes, that would wait for the others.
    """
    distribution = None
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        if distribution is not None:
            keras.distribution.set_distribution(distribution)


class OneDevicePrediction:
    """`predict_step` of a model whose weights are on several devices, on one of them.

    Keras hands a batch to all devices: on JAX it must be divisible by their number, on TensorFlow
    each gets a copy of it, and of several processes all must take part. Here this process uses the
    weights that it has.

    Args:
        model: a built `keras.Model`.
    """

    def __init__(self, model):
        self._model = model
        if keras.backend.backend() == "jax":
            import jax

            self._step = jax.jit(lambda state, batch: model.predict_step(state, batch)[0])
        else:
            import tensorflow as tf

            self._step = tf.function(model.predict_step, reduce_retracing=True)

    def __call__(self, batch):
        """What `predict_on_batch` returns, as numpy arrays."""
        if keras.backend.backend() == "jax":
            variables = (self._model.trainable_variables, self._model.non_trainable_variables)
            state = tuple([v.value.addressable_data(0) for v in group] for group in variables)
            found = self._step(state, (batch,))
        else:
            found = self._step((keras.tree.map_structure(keras.ops.convert_to_tensor, batch),))
        return keras.tree.map_structure(np.asarray, found)
