"""What was noticed of the data, told at the end of each epoch."""

import warnings

import keras


class TellOfData(keras.callbacks.Callback):
    """Tells at the end of each epoch what a `Feeding` and the detector noticed of the data.

    Args:
        feeding: the `Feeding` of the training.
        invalid_boxes: "warn", or "raise" for an error where `FaultyBoxes` counted any.
    """

    def __init__(self, feeding, invalid_boxes="warn"):
        super().__init__()
        if invalid_boxes not in ("warn", "raise"):
            raise ValueError(f'`invalid_boxes` must be "warn" or "raise", got {invalid_boxes!r}.')
        self._feeding, self._invalid_boxes = feeding, invalid_boxes

    def on_epoch_end(self, epoch, logs=None):
        self._feeding.tell()
        self._tell_of_boxes()

    def on_test_end(self, logs=None):
        self._tell_of_boxes()

    def _tell_of_boxes(self):
        count = self.model.faulty_boxes.take()
        if not count:
            return
        message = (
            f"{count} boxes were left out: their class id was none of 0.."
            f"{self.model.num_classes - 1} (num_classes={self.model.num_classes}), or they had NaN "
            "or infinite coordinates."
        )
        if self._invalid_boxes == "raise":
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)


def with_callback(callbacks, callback):
    """The callbacks of `fit` (None, one, a list or Keras's CallbackList) and one more."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(callback)
        return callbacks
    return [*keras.tree.flatten(callbacks or []), callback]
