"""The processes that train together: which of them this is, and what the first one tells all."""

import contextlib
import json
import os

import keras
import numpy as np


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
    """Number of processes that read different shards of the data that this dataset is of."""
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
