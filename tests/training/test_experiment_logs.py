"""Weights & Biases, MLflow and TensorBoard, each in its mode without a network."""

import json
import struct

import keras
import pytest
from cli_commands import DATA, TINY, fails

from keras_gflv2 import cli
from keras_gflv2.training import MLflowLog, WandbLog

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Both services write to files; those of MLflow are read by the function that this gives."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts into mlruns here


class FakeTraining(keras.callbacks.CallbackList):
    """Calls callbacks as a `fit` of some epochs does."""

    def fit(self, logs, first=0):
        self.on_train_begin()
        for epoch, values in enumerate(logs, start=first):
            self.on_epoch_end(epoch, values)
        self.on_train_end()


def wandb_history(folder):
    """[numbers] and ids of the runs that the offline files of Weights & Biases in a folder hold."""
    from wandb.proto.wandb_internal_pb2 import Record

    rows, runs = [], set()
    for file in sorted(folder.rglob("run-*.wandb"), key=lambda f: f.stat().st_mtime):
        for content in wandb_records(file.read_bytes()):
            record = Record.FromString(content)
            if record.run.run_id:
                runs.add(record.run.run_id)
            if record.history.item:
                items = record.history.item
                rows.append(
                    {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                )
    return rows, runs


def wandb_records(content, block=2**15):
    """The records of a file in the format of LevelDB's log, behind a header of 7 bytes."""
    position, record = 7, b""
    while position + 7 <= len(content):
        if block - position % block < 7:  # too little for a header: padding
            position += block - position % block
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        if not kind:
            return
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole record, or its last part
            yield record
            record = b""


def test_a_training_in_two_parts_is_one_run_of_wandb(tmp_path, offline):
    pytest.importorskip("wandb", reason="pip install 'keras-gflv2[wandb]'")
    folder = tmp_path / "my_run"
    log = WandbLog(folder, {"batch_size": 4})
    FakeTraining([log]).fit([{"loss": 2.0}, {"loss": 1.0}])
    again = WandbLog(folder)
    FakeTraining([again]).fit([{"loss": 0.5, "val_AP": 0.25}], first=2)
    rows, runs = wandb_history(tmp_path)
    assert runs == {log.run_id} == {again.run_id}
    assert [(row["epoch"], row["loss"]) for row in rows] == [(0, 2.0), (1, 1.0), (2, 0.5)]
    assert rows[-1]["val_AP"] == 0.25


def test_a_training_in_two_parts_is_one_run_of_mlflow(tmp_path, offline):
    mlflow = pytest.importorskip("mlflow", reason="pip install 'keras-gflv2[mlflow]'")
    folder = tmp_path / "my_run"
    log = MLflowLog(folder, {"batch_size": 4, "data": "x" * 1000})
    FakeTraining([log]).fit([{"loss": 2.0}, {"loss": 1.0}])
    FakeTraining([MLflowLog(folder)]).fit([{"loss": 0.5, "val_AP": 0.25}], first=2)
    run = mlflow.get_run(log.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my_run")
    assert run.data.params["batch_size"] == "4" and run.data.metrics["val_AP"] == 0.25
    history = mlflow.MlflowClient().get_metric_history(log.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 2.0), (1, 1.0), (2, 0.5)]


def test_the_command_line_logs_to_all_of_them(tmp_path, offline):
    """With its own pictures, numbers and arguments at the end."""
    mlflow = pytest.importorskip("mlflow", reason="pip install 'keras-gflv2[mlflow]'")
    pytest.importorskip("wandb", reason="pip install 'keras-gflv2[wandb]'")
    pytest.importorskip("tensorboard", reason="pip install 'keras-gflv2[tensorboard]'")
    run = tmp_path / "run"
    logs = ["--log", "wandb", "mlflow", "tensorboard"]
    command = ["train", *DATA, *TINY, "--epochs", "2", *logs, "--output", str(run)]
    assert cli.main(command) == 0
    ids = json.loads((run / "experiments.json").read_text())
    rows, runs = wandb_history(run)
    assert runs == {ids["wandb"]}
    assert [row["epoch"] for row in rows if "epoch" in row] == [0, 1]
    assert {"loss", "val_AP", "learning_rate"} <= rows[0].keys()
    files = {file.path for file in mlflow.MlflowClient().list_artifacts(ids["mlflow"])}
    assert files == {"arguments.json", "log.csv", "curves.png", "detections.png"}
    assert mlflow.get_run(ids["mlflow"]).data.params["recipe"] == "scratch"
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))
    assert cli.main(["train", "--output", str(run), "--resume", "--epochs", "3"]) == 0
    assert json.loads((run / "experiments.json").read_text()) == ids
    steps = [m.step for m in mlflow.MlflowClient().get_metric_history(ids["mlflow"], "loss")]
    assert steps == [0, 1, 2]


def test_the_flag_of_version_0_1_logs_to_tensorboard(tmp_path):
    pytest.importorskip("tensorboard", reason="pip install 'keras-gflv2[tensorboard]'")
    run = tmp_path / "run"
    command = ["train", *DATA[:2], *TINY, "--epochs", "1", "--tensorboard", "--output", str(run)]
    assert cli.main(command) == 0
    assert list((run / "tensorboard").rglob("events.out.tfevents.*"))


def test_a_missing_package_is_said_before_anything_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    output = tmp_path / "run"
    said = fails(capsys, "train", "--data", "shapes:train:8", "--log", "wandb", "--output", output)
    assert "pip install 'keras-gflv2[wandb]'" in said and not output.exists()
