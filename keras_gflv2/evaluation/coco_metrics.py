"""COCO metrics in the logs of `fit`."""

import keras

from keras_gflv2.evaluation.coco import METRIC_NAMES, evaluate_coco


class COCOMetrics(keras.callbacks.Callback):
    """Adds the COCO metrics of a validation dataset to the logs of `fit`.

    After every epoch the logs hold `val_AP`, `val_AP50` and the ten others, for the progress bar,
    `History`, `CSVLogger`, `ModelCheckpoint` and `EarlyStopping`. Put it before the callbacks that
    read them: Keras calls callbacks in the order of the list.

    With `frequency` above 1, epochs without a measurement log -1 (pycocotools' "no value"), so that
    the columns of a CSV file exist from the first epoch and no checkpoint is chosen by them. The
    last epoch is always measured.

    Args:
        dataset: as in `evaluate_coco`.
        prefix: put before every name. Defaults to `"val_"`.
        frequency: measure every so many epochs. Defaults to 1.
        verbose: 0 for silence (default), 1 for a progress bar of its own.

    Attributes:
        metrics: the whole dictionary of the last measurement, with "per_class"; None before.

    Raises:
        ValueError: `frequency` is not a positive integer.

    Example:
        ```python
        model.fit(train_ds, epochs=12, callbacks=[
            keras_gflv2.evaluation.COCOMetrics(val_ds),
            keras.callbacks.ModelCheckpoint(
                "best.keras", monitor="val_AP", mode="max", save_best_only=True),
        ])
        ```
    """

    def __init__(self, dataset, prefix="val_", frequency=1, verbose=0):
        super().__init__()
        if not isinstance(frequency, int) or frequency < 1:
            raise ValueError(f"`frequency` must be a positive integer. Received: {frequency!r}")
        self.dataset = dataset
        self.prefix = prefix
        self.frequency = frequency
        self.verbose = verbose
        self.metrics = None

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        if not self._is_measured(epoch):
            logs.update({self.prefix + name: -1.0 for name in METRIC_NAMES})
            return
        # On JAX `fit` has put its state back into the variables before this call, and
        # `predict_on_batch` leaves them valid (it donates and reassigns them).
        self.metrics = evaluate_coco(self.model, self.dataset, verbose=self.verbose)
        logs.update({self.prefix + name: self.metrics[name] for name in METRIC_NAMES})

    def _is_measured(self, epoch):
        is_last = epoch + 1 == self.params.get("epochs")
        return is_last or (epoch + 1) % self.frequency == 0
