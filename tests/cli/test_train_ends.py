"""How a training ends before its last epoch: no progress, or no time."""

import csv
import json

import keras
import pytest
from cli_commands import DATA, TINY, fails
from common import random_batch, small_model

from keras_gflv2 import cli, data, training
from keras_gflv2.cli import sources, train_callbacks
from keras_gflv2.cli.arguments import duration
from keras_gflv2.training import EarlyStopping

pytestmark = pytest.mark.usefixtures("without_graphs")


class KnownAP(keras.callbacks.Callback):
    """Puts AP into the logs that COCOMetrics would have found."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_AP"] = self.values[epoch]


@pytest.fixture(scope="module")
def model():
    model = small_model()
    # JAX is slower untraced.
    model.compile("adam", run_eagerly=keras.backend.backend() == "tensorflow")
    return model


def epochs_of(model, values, patience, history=()):
    """The epochs that a training does which finds AP of these values."""
    batch = random_batch(size=(64, 64))
    history = model.fit(
        batch["images"],
        batch["bounding_boxes"],
        batch_size=2,
        epochs=len(values),
        initial_epoch=len(history),
        callbacks=[KnownAP(values), EarlyStopping(patience, history)],
        verbose=0,
    )
    return history.epoch


def test_a_training_ends_after_epochs_without_a_better_ap(model, capsys):
    """Unmeasured epochs do not count."""
    values = [0.1, 0.3, -1, 0.2, 0.3, 0.9, 0.9]
    assert epochs_of(model, values, 2) == [0, 1, 2, 3, 4]
    assert "best, 0.3000, after epoch 2" in capsys.readouterr().out
    assert epochs_of(model, values, 3) == list(range(7))


def test_patience_counts_the_epochs_before_a_training_was_resumed(model):
    values = [0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert epochs_of(model, values, 3, history=[(0, 0.5), (1, 0.1)]) == [2, 3]
    # One that had ended does one more epoch, and no half of one.
    history = list(enumerate(values[:4]))
    assert epochs_of(model, values, 3, history=history) == [4]


def test_patience_on_the_command_line(tmp_path, capsys, monkeypatch):
    make_callbacks = train_callbacks.train_callbacks

    def with_known_ap(*arguments):
        callbacks = make_callbacks(*arguments)
        return [callbacks[0], callbacks[1], KnownAP([0.5, 0.1, 0.1, 0.1, 0.1]), *callbacks[2:]]

    monkeypatch.setattr(train_callbacks, "train_callbacks", with_known_ap)
    run = tmp_path / "run"
    command = ["train", *DATA, *TINY, "--epochs", "5", "--patience", "2", "--output", str(run)]
    assert cli.main(command) == 0
    assert "has not risen for 2 epochs" in capsys.readouterr().out
    assert [row["epoch"] for row in read_log(run)] == ["0", "1", "2"]
    assert (run / "preset").is_dir() and (run / "model.keras").is_file()
    said = fails(capsys, "train", *DATA[:2], "--patience", "2", "--output", tmp_path / "other")
    assert "--validation-data" in said


def read_log(run):
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_time_limit_keeps_the_state_and_says_how_to_go_on(tmp_path, capfd):
    """A limit that is over at once ends the training after its first step; no model is written."""
    run = tmp_path / "run"
    data = ["--data", "shapes:train:12"]
    command = ["train", *data, *TINY, "--epochs", "2", "--output", str(run)]
    assert cli.main([*command, "--time-limit", "1s", "--seed", "3"]) == 0
    printed, told = capfd.readouterr()
    assert printed.splitlines()[-1] == (
        f"stopped by --time-limit; continue with: keras-gflv2 train --output {run} --resume"
    )
    assert "The time limit" in told and "Traceback" not in told
    assert training.read_position(run) == (0, 1) and not (run / "model.keras").exists()
    assert cli.main(["train", "--output", str(run), "--resume", "--time-limit", "1h"]) == 0
    assert "from step 1 of epoch 1" in capfd.readouterr().out
    assert sources.load_model(run).num_classes == 3
    record = json.loads((run / "arguments.json").read_text())
    assert record["arguments"]["time_limit"] == 3600 and record["arguments"]["seed"] == 3


def test_a_time_limit_in_python(model, tmp_path):
    options = {"num_images": 4, "size": 64, "batch_size": 2, "image_size": (64, 64)}
    dataset = data.load_shapes("train", train=True, seed=0, **options)
    with pytest.raises(training.TimeIsUp):
        training.fit(model, dataset, tmp_path, 1, time_limit=0.0, verbose=0)
    assert training.read_position(tmp_path) == (0, 1)


@pytest.mark.parametrize(
    "text, seconds",
    [("8h", 28800), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("2", 120), ("0.5", 30)],
)
def test_durations(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0m", "-3", "soon", "1d", "h"])
def test_what_is_no_duration(text, capsys):
    assert cli.main(["train", "--output", "x", f"--time-limit={text}"]) == 2
    assert "number of minutes" in capsys.readouterr().err
