"""The whole state of a training in one file, which is there whole or not at all."""

import contextlib
import json
import shutil
import sys
import time
import warnings
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_gflv2 import recipes
from keras_gflv2.annotations import Dataset, PathLike
from keras_gflv2.files import written_whole
from keras_gflv2.replicas import in_this_process, is_chief, wait_for_all
from keras_gflv2.signals import stopped_by
from keras_gflv2.training.identity import check_identity, identity, length
from keras_gflv2.training.interruption import Interruption
from keras_gflv2.training.lock import locked

POSITION, TRAINING = "position", "training"
# Keras wants this ending for weights. The name starts with a dot until the file is whole.
FILE_NAME = "state.weights.h5"


def fit(
    model, dataset, directory, epochs, *, seconds=300.0, time_limit=None, callbacks=(), **kwargs
):
    """`model.fit` that goes on from what a killed one left, as if it had never stopped.

    A recipe's plan is that of the whole training, wherever it goes on. With other `epochs` than
    before it is the plan for those, from the step where the training is.

    Ctrl-C and SIGTERM end the training after the step that runs, with its state saved: within an
    epoch where `dataset` can go on there, else the last state is from the epoch's beginning.

    Args:
        model: a compiled model, made and compiled as the first time.
        dataset: a training dataset of this package, made as the first time. Any other is resumed
            at the start of an epoch only; so is all data with `steps_per_epoch`.
        directory: folder of the state, made if it is not there. Several processes share it: the
            first writes, all read.
        epochs, seconds: see `keras.Model.fit` and `SaveState`.
        time_limit: seconds after which the training ends after the step that runs, as by Ctrl-C;
            None for none.
        callbacks: other callbacks; each has done its work when an epoch is saved.
        **kwargs: as in `keras.Model.fit`.

    Raises:
        ValueError: another training uses the folder; or its state cannot be read, or is of another
            model, other data, or beyond `epochs`.
        FloatingPointError, OSError: see `SaveState`.
        KeyboardInterrupt, SystemExit, TimeIsUp: a signal came, or the time limit; what is saved was
            said on stderr.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    in_epoch = kwargs.get("steps_per_epoch") is None
    with contextlib.ExitStack() as stack:
        if is_chief():
            stack.enter_context(locked(directory))
        check_resumption(directory, model, dataset, epochs)
        stop = stack.enter_context(Interruption(time_limit))
        state = SaveState(directory, dataset, seconds, resume_in_epoch=in_epoch, stop=stop)
        state.begin(model)
        whole = recipes.WholeTraining(length(dataset) if in_epoch else None, state.first_step)
        stack.enter_context(recipes.parts_of(model, whole))
        kwargs = {"shuffle": False, **kwargs, "callbacks": [*callbacks, state], "epochs": epochs}
        try:
            _fit_parts(model, dataset, epochs, state, kwargs)
        except Exception:
            # The first process has left, and with it the step that this one was in.
            if stop.signal is None or is_chief():
                raise
            raise stopped_by(stop.signal) from None


def _fit_parts(model, dataset, epochs, state, kwargs):
    """The rest of an epoch, where one was interrupted, and the epochs after it."""
    if state.step:
        # Keras takes the first epoch's length for that of all: a call of its own.
        state.only_this_epoch = True
        rest = dataset.from_position(state.epoch, state.step)
        model.fit(rest, initial_epoch=state.epoch, **kwargs)
        wait_for_all(model)  # for what the first process has saved
        if state.stopped_early:
            return
        state.only_this_epoch = False
    epoch, _ = read_position(state.file.parent)
    if epoch < epochs:
        model.fit(dataset, initial_epoch=epoch, **kwargs)
    else:  # killed after its last epoch, of which `fit` had the averages to put in
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        state.restore(model)
        model.optimizer.finalize_variable_values(model.trainable_variables)


class SaveState(keras.callbacks.Callback):
    """Saves weights, optimizer, averages, metrics and position; restores them when `fit` begins.

    `keras_gflv2.training.fit` uses it. Put it last: an epoch is over when the other callbacks have
    done their work.

    Args:
        directory: where the file is.
        dataset: a training dataset of this package. Others are saved between epochs only.
        seconds: a save is due so long after the last one, besides those between epochs.
        resume_in_epoch: False to save between epochs only.
        stop: an `Interruption` that says whether to save and end after this step, or None.

    Attributes:
        epoch, step: what comes next: 0, 0 of a new training.
        first_step: `optimizer.iterations` where the training began.

    Raises (in `fit`):
        FloatingPointError: the loss or a weight is not finite; the message names the images. The
            file keeps the last good state.
        OSError: the folder cannot be written or its disk is full, at the start of an epoch where
            possible, with the old state untouched.
    """

    def __init__(
        self,
        directory: PathLike,
        dataset: Dataset,
        seconds: float = 300.0,
        *,
        resume_in_epoch: bool = True,
        stop: Interruption | None = None,
    ):
        super().__init__()
        self.file = Path(directory) / FILE_NAME
        self.seconds = seconds
        self.epoch, self.step = read_position(directory)
        self.first_step = read_record(directory).get("first_step", 0)
        self.only_this_epoch = self.stopped_early = False
        self._source = dataset
        self._resumes_in_epoch = resume_in_epoch and hasattr(dataset, "from_position")
        self._stop = stop
        self._identity = None
        self._must_restore = False
        self._writes = is_chief()

    def begin(self, model):
        """Notes what `model` is, and where its optimizer was if the training is a new one."""
        self._identity = identity(model, self._source)
        if not self.file.is_file():
            self.first_step = int(keras.ops.convert_to_numpy(model.optimizer.iterations))

    # === While fit runs ===

    def on_train_begin(self, logs=None):
        self._must_restore = self.file.is_file()

    def on_epoch_begin(self, epoch, logs=None):
        self._first = 0
        if self._must_restore:
            # Here, not before: fit resets the metrics when an epoch begins.
            self.restore(self.model)
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
        if batch + 1 == (self.params or {}).get("steps"):
            return  # The end of the epoch saves for itself, when the other callbacks are through.
        due = self._must_stop or time.monotonic() - self._saved_at >= self.seconds
        if due and self._resumes_in_epoch and self.step < len(self._source):
            self.save(self.epoch, self.step)
        if self._must_stop:
            self._end()

    def on_epoch_end(self, epoch, logs=None):
        self.save(epoch + 1, 0)
        if self._must_stop:
            self._end()
        if self.only_this_epoch:
            self.stopped_early = self.model.stop_training
            self.model.stop_training = True

    @property
    def _must_stop(self):
        # Of several processes the first one's end is that of all.
        return self._stop is not None and self._stop.signal is not None and self._writes

    def _end(self):
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()
        text = f"The training was stopped. {self._last_good()}"
        if self.file.is_file():
            text += " To go on, train into the same folder again."
        print(text, file=sys.stderr, flush=True)
        raise stopped_by(self._stop.signal)

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
        record = {"first_step": self.first_step, "identity": self._identity}
        try:
            with written_whole(self.file) as temporary:
                with in_this_process():
                    self.model.save_weights(temporary)
                with h5py.File(temporary, "a") as file:
                    file.attrs[POSITION] = json.dumps([epoch, step])
                    file.attrs[TRAINING] = json.dumps(record)
        except OSError as error:
            raise OSError(f"Saving to {self.file} failed: {error}. {self._last_good()}") from error

    def restore(self, model):
        """Puts what is saved into a model and its optimizer."""
        try:
            with warnings.catch_warnings():
                # Keras leaves out what it does not find, and warns.
                warnings.filterwarnings("error", message="Skipping")
                model.load_weights(self.file)
        # Keras and h5py have an exception of every kind for a damaged file.
        except Exception as error:
            raise ValueError(_unusable(self.file, error)) from error

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


def check_resumption(directory, model, dataset, epochs, command_line=False):
    """Raises ValueError where the state in a folder cannot be what this training goes on from.

    Args:
        directory, model, dataset, epochs: see `fit`.
        command_line: whether the message names options, not arguments.
    """
    epoch, step = read_position(directory)
    saved = read_record(directory).get("identity") or {}
    check_identity(saved, identity(model, dataset), directory, command_line)
    steps = length(dataset)
    is_there = f"{Path(directory) / FILE_NAME} is at step {step} of epoch {epoch + 1}"
    if epoch + bool(step) > epochs:
        name = "--epochs" if command_line else "`epochs`"
        raise ValueError(
            f"{is_there}, beyond {name}={epochs}. Ask for more epochs to go on, or start a new "
            "training in another folder."
        )
    if step and not hasattr(dataset, "from_position"):
        raise ValueError(
            f"{is_there}, but the dataset cannot begin within an epoch: it is not the one that "
            "was trained on. Pass that one, or start a new training in another folder."
        )
    if step and steps is not None and step >= steps:
        raise ValueError(
            f"{is_there}, but the dataset has {steps} steps per epoch. Pass the data that was "
            "trained on, or start a new training in another folder."
        )


def read_position(directory: PathLike) -> tuple[int, int]:
    """(epoch, step) that comes next after the state saved in a folder; (0, 0) where is none.

    Raises:
        ValueError: the file is damaged, or none of `SaveState`'s.
    """
    return _read(Path(directory) / FILE_NAME)[0]


def read_record(directory):
    """What else is known of the training: "first_step" and "identity"; {} where nothing is."""
    return _read(Path(directory) / FILE_NAME)[1]


def _read(file):
    if not file.is_file():
        return (0, 0), {}
    try:
        with h5py.File(file, "r") as content:
            epoch, step = json.loads(content.attrs[POSITION])
            # Version 0.1 wrote the position alone.
            record = json.loads(content.attrs.get(TRAINING, "{}"))
        first_step = record.get("first_step", 0)
        if not all(isinstance(n, int) and n >= 0 for n in (epoch, step, first_step)):
            raise ValueError(f"it is at step {step!r} of epoch {epoch!r}")
        if not isinstance(record.get("identity") or {}, dict):
            raise ValueError("its record of the training is none")
    # h5py, json and whatever stands there instead have an exception of every kind.
    except Exception as error:
        raise ValueError(_unusable(file, error)) from error
    return (epoch, step), record


def _unusable(file, error):
    return (
        f"{file} holds no state of a training that can be used here, or is damaged: "
        f"{' '.join(str(error).split())[:300]}. Put a whole copy of it there, or remove it to "
        "train from the start again."
    )
