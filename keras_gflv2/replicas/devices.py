"""Outside of a step: how data and variables of a model are spread over its devices."""

import contextlib

import keras

from keras_gflv2.replicas.processes import process_position


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


def is_spread(model):
    """Whether Keras would split a batch of `predict_on_batch` among several devices."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return model.distribute_strategy.num_replicas_in_sync > 1
    if backend == "jax":
        if keras.distribution.distribution() is not None:
            return True
        variable = _first_variable(model)
        return variable is not None and len(variable.value.sharding.device_set) > 1
    return False


def _first_variable(layer):
    """A variable of a layer or model, without Keras's walk through all of its layers."""
    for part in getattr(layer, "layers", ()):
        variable = _first_variable(part)
        if variable is not None:
            return variable
    return next(iter(layer.variables), None)
