"""The whole state of a training in one file, which is there whole or not at all."""

import json
import os
import shutil
import time
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_gflv2.replicas import in_this_process, is_chief, wait_for_all

POSITION = "position"
# Keras wants this ending for weights. The name starts with a dot until the file is whole.
FILE_NAME = "state.weights.h5"


def fit(model, dataset, directory, epochs, *, seconds=300.0, callbacks=(), **kwargs):
    """`model.fit` that goes on from what a killed one left, as if it had never stopped.

    Args:
        model: a compiled model, made and compiled as the first time.
        dataset: a training dataset of this package, made as the first time. Any other is resumed
            at the start of an epoch only.
        directory: folder of the state, made if it is not there. Several processes share it: the
            first writes, all read.
        epochs, seconds: see `keras.Model.fit` and `SaveState`.
        callbacks: other callbacks; each has done its work when an epoch is saved.
        **kwargs: as in `keras.Model.fit`.

    Raises:
        FloatingPointError, OSError: see `SaveState`.
    """
    Path(directory).mkdir(parents=True, exist_ok=True)
    state = SaveState(directory, dataset, seconds)
    kwargs = {"shuffle": False, **kwargs, "callbacks": [*callbacks, state]}
    if state.step:
        # Keras takes the first epoch's length for that of all.
        rest = dataset.from_position(state.epoch, state.step)
        model.fit(rest, initial_epoch=state.epoch, epochs=state.epoch + 1, **kwargs)
        wait_for_all(model)  # for what the first process has saved
    epoch, _ = read_position(directory)
    if epoch < epochs:
        model.fit(dataset, initial_epoch=epoch, epochs=epochs, **kwargs)
    else:  # killed after its last epoch, of which `fit` had the averages to put in
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.load_weights(state.file)
        model.optimizer.finalize_variable_values(model.trainable_variables)


class SaveState(keras.callbacks.Callback):
    """Saves weights, optimizer, averages, metrics and position; restores them when `fit` begins.

    `keras_gflv2.training.fit` uses it. Put it last: an epoch is over when the other callbacks have
    done their work.

    Args:
        directory: where the file is.
        dataset: a training dataset of this package. Others are saved between epochs only.
        seconds: a save is due so long after the last one, besides those between epochs.

    Attributes:
        epoch, step: what comes next: 0, 0 of a new training.

    Raises (in `fit`):
        FloatingPointError: the loss or a weight is not finite; the message names the images. The
            file keeps the last good state.
        OSError: the folder cannot be written or its disk is full, at the start of an epoch where
            possible, with the old state untouched.
    """

    def __init__(self, directory, dataset, seconds=300.0):
        super().__init__()
        self.file = Path(directory) / FILE_NAME
        self.seconds = seconds
        self.epoch, self.step = read_position(directory)
        self._source = dataset
        self._must_restore = False
        self._writes = is_chief()

    # === While fit runs ===

    def on_train_begin(self, logs=None):
        self._must_restore = self.file.is_file()

    def on_epoch_begin(self, epoch, logs=None):
        self._first = 0
        if self._must_restore:
            # Here, not before: fit resets the metrics when an epoch begins.
            self.model.load_weights(self.file)
            self._must_restore = False
            self._first = read_position(self.file.parent)[1]
        # The last word: building the model may have read from the dataset.
        if self._resumes_in_epoch:
            self._source.set_epoch(epoch, self._first)
        elif hasattr(self._source, "set_epoch"):
            self._source.set_epoch(epoch)
        self.epoch, self.step = epoch, self._first
        self._saved_at = time.monotonic()
        self.check_disk()

    def on_train_batch_end(self, batch, logs=None):
        self.step = self._first + batch + 1
        loss = float((logs or {}).get("loss", 0.0))
        if not np.isfinite(loss):
            raise FloatingPointError(f"The loss is {loss} {self._where()}")
        due = time.monotonic() - self._saved_at >= self.seconds
        # The end of the epoch saves for itself, when the other callbacks are through.
        if due and self._resumes_in_epoch and self.step < len(self._source):
            self.save(self.epoch, self.step)

    def on_epoch_end(self, epoch, logs=None):
        self.save(epoch + 1, 0)

    @property
    def _resumes_in_epoch(self):
        return hasattr(self._source, "from_position")

    # === The file ===

    def save(self, epoch, step):
        """Writes the state from which step `step` of epoch `epoch` comes next."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        for variable in self.model.trainable_variables:
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                raise FloatingPointError(f"{variable.path} is not finite {self._where()}")
        self._saved_at = time.monotonic()
        if not self._writes:
            return
        temporary = self.file.with_name("." + self.file.name)
        try:
            with in_this_process():
                self.model.save_weights(temporary)
            with h5py.File(temporary, "a") as file:
                file.attrs[POSITION] = json.dumps([epoch, step])
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self.file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(f"Saving to {self.file} failed: {error}. {self._last_good()}") from error

    def check_disk(self):
        """Raises OSError where the next state could not be written."""
        if not self._writes:
            return
        variables = [*self.model.variables, *self.model.optimizer.variables]
        needed = sum(int(np.prod(v.shape)) * 4 for v in variables)
        free = shutil.disk_usage(self.file.parent).free
        # The last state, the next one, and as much again for the best model.
        if free < 2 * needed:
            raise OSError(
                f"{self.file.parent} has {free / 1e6:.0f} MB left; the next checkpoints need "
                f"{2 * needed / 1e6:.0f} MB. {self._last_good()}"
            )
        probe = self.file.with_name(".probe")
        try:
            probe.write_bytes(b"\0")
            probe.unlink()
        except OSError as error:
            raise OSError(f"{self.file.parent} cannot be written: {error}") from error

    def _last_good(self):
        epoch, step = read_position(self.file.parent)
        if not self.file.is_file():
            return "Nothing has been saved yet."
        return f"{self.file} holds the state before step {step} of epoch {epoch + 1}."

    def _where(self):
        text = f"after step {self.step} of epoch {self.epoch + 1}. "
        if hasattr(self._source, "images_of"):
            indices = self._source.images_of(self.epoch, max(self.step - 1, 0))
            names = [f"{self._source.image_ids[i]} ({self._source.file_names[i]})" for i in indices]
            text += f"The batch was made of the images {', '.join(names)}. "
        return text + self._last_good()


def read_position(directory):
    """(epoch, step) that comes next after the state saved in a folder; (0, 0) where is none.

    Raises:
        ValueError: the file is none of `SaveState`'s.
    """
    file = Path(directory) / FILE_NAME
    if not file.is_file():
        return 0, 0
    try:
        with h5py.File(file) as content:
            epoch, step = json.loads(content.attrs[POSITION])
    except (OSError, KeyError) as error:
        raise ValueError(f"{file} holds no state of a training: {error}") from error
    return epoch, step
