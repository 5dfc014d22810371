"""Sums over the devices that train together."""

import keras


def number_of_replicas():
    """How many replicas run this step: 1 but under a TensorFlow strategy."""
    context = _tensorflow_context()
    return context.num_replicas_in_sync if context else 1


def sum_over_replicas(value):
    """The sum of a scalar over all replicas; itself where there is one.

    On JAX a batch that is sharded over devices is one array to the program, so that its sum is
    over all of them already.
    """
    context = _tensorflow_context()
    return context.all_reduce("SUM", value) if context else value


def _tensorflow_context():
    """TensorFlow's replica context inside a strategy of several replicas, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    if not tf.distribute.has_strategy() or tf.distribute.in_cross_replica_context():
        return None
    context = tf.distribute.get_replica_context()
    return context if context.num_replicas_in_sync > 1 else None
