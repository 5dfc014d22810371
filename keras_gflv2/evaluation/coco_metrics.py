"""COCO metrics in the logs of `fit`, and the best model by them."""

import os
from pathlib import Path

import keras

from keras_gflv2.annotations import Dataset, PathLike, Verbose
from keras_gflv2.evaluation.coco import METRIC_NAMES, evaluate_coco
from keras_gflv2.optimizers import averaged_weights
from keras_gflv2.replicas import from_chief, in_this_process, is_chief


class COCOMetrics(keras.callbacks.Callback):
    """Adds the COCO metrics of a validation dataset to the logs of `fit`.

    After every epoch the logs hold `val_AP`, `val_AP50` and the ten others, for the progress bar,
    `History`, `CSVLogger`, `ModelCheckpoint` and `EarlyStopping`. Put it before the callbacks that
    read them: Keras calls callbacks in the order of the list.

    With `frequency` above 1, epochs without a measurement log -1 (pycocotools' "no value"), so that
    the columns of a CSV file exist from the first epoch and no checkpoint is chosen by them. The
    last epoch is always measured.

    Where the optimizer averages weights (`use_ema`), the averages are measured, and saved to
    `best_model`; Keras's ModelCheckpoint would save the others.

    Args:
        dataset: as in `evaluate_coco`.
        prefix: put before every name. Defaults to `"val_"`.
        frequency: measure every so many epochs. Defaults to 1.
        verbose: 0 for silence (default), 1 for a progress bar of its own.
        best_model: `.keras` file that gets the model of the best AP, whole or not at all.
        best_so_far: AP that a model must exceed to be saved there.

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

    def __init__(
        self,
        dataset: Dataset,
        prefix: str = "val_",
        frequency: int = 1,
        verbose: Verbose = 0,
        best_model: PathLike | None = None,
        best_so_far: float | None = None,
    ):
        super().__init__()
        if not isinstance(frequency, int) or frequency < 1:
            raise ValueError(f"`frequency` must be a positive integer. Received: {frequency!r}")
        self.dataset = dataset
        self.prefix = prefix
        self.frequency = frequency
        self.verbose = verbose
        self.best_model = best_model and Path(best_model)
        self.best_so_far = -1.0 if best_so_far is None else best_so_far
        self.metrics = None

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        if not self._is_measured(epoch):
            logs.update({self.prefix + name: -1.0 for name in METRIC_NAMES})
            return
        # On JAX `fit` has put its state back into the variables before this call, and
        # `predict_on_batch` leaves them valid (it donates and reassigns them).
        values = None
        with averaged_weights(self.model):
            if is_chief():
                with in_this_process():
                    self.metrics = evaluate_coco(self.model, self.dataset, verbose=self.verbose)
                    self._keep_best()
                values = [self.metrics[name] for name in METRIC_NAMES]
            # Of several processes one measures, and all of them know.
            values = from_chief(self.model, values or [0.0] * len(METRIC_NAMES))
        logs.update({self.prefix + name: v for name, v in zip(METRIC_NAMES, values, strict=True)})

    def _keep_best(self):
        if self.best_model and self.metrics["AP"] > self.best_so_far:
            self.best_so_far = self.metrics["AP"]
            temporary = self.best_model.with_name("." + self.best_model.name)
            self.model.save(temporary)
            os.replace(temporary, self.best_model)

    def _is_measured(self, epoch):
        is_last = epoch + 1 == self.params.get("epochs")
        return is_last or (epoch + 1) % self.frequency == 0
