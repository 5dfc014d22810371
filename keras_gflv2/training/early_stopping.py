"""A training ends where its AP rises no more."""

from collections.abc import Iterable

import keras


class EarlyStopping(keras.callbacks.EarlyStopping):
    """`keras.callbacks.EarlyStopping` by `val_AP`, for trainings that are resumed.

    Put it after `COCOMetrics`. Epochs that were not measured (-1) do not count.

    Args:
        patience: epochs without a new best one after which the training ends.
        history: [(epoch, val_AP)] of the epochs before a resumed training.
    """

    def __init__(self, patience: int, history: Iterable[tuple[int, float]] = ()):
        super().__init__(monitor="val_AP", mode="max", patience=patience)
        self.history = list(history)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        for epoch, value in self.history:
            super().on_epoch_end(epoch, {self.monitor: value})
        # Only the end of an epoch ends a training: this would end it after a step.
        self.model.stop_training = False

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        if value is None or value < 0:
            return
        self.history.append((epoch, value))
        super().on_epoch_end(epoch, logs)
        if self.model.stop_training:
            print(
                f"{self.monitor} has not risen for {self.wait} epochs: the training ends. It was "
                f"best, {self.best:.4f}, after epoch {self.best_epoch + 1}."
            )
