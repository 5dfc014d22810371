"""Boxes that training leaves out, counted in the graph."""

import keras


class FaultyBoxes(keras.metrics.Sum):
    """Counts boxes that a training step leaves out, where Python does not see the batches.

    Data that Keras or TensorFlow has spread over devices already goes into the graph unseen.
    """

    NAME = "faulty_boxes"

    def __init__(self):
        super().__init__(name=self.NAME)

    def reset_state(self):
        """Nothing: validation within an epoch resets the metrics before the epoch is told of."""

    def take(self):
        """The count so far, which starts anew."""
        count = int(keras.ops.convert_to_numpy(self.result()))
        if count:
            self.total.assign(keras.ops.zeros_like(self.total))
        return count
