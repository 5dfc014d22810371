"""The beginning that all schedules share."""

from keras import ops


def warm_up(step, length, ratio):
    """Factor of the learning rate: from `ratio` at step 0 to 1 at step `length`."""
    return ratio + (1.0 - ratio) * ops.minimum(step / max(length, 1), 1.0)
