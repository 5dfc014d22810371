"""Runs of the command line: what training writes, how it resumes, and evaluating."""

import csv
import json
import shutil
import signal
from pathlib import Path

import filelock
import keras
import numpy as np
import pytest
from cli_commands import DATA, TINY, fails

from keras_gflv2 import cli
from keras_gflv2.cli import evaluate, sources, train_callbacks
from keras_gflv2.cli.run_folder import RunFolder
from keras_gflv2.evaluation.coco import METRIC_NAMES
from keras_gflv2.training.lock import LOCK_NAME

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory):
    """A run of one epoch."""
    output = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(["train", *DATA, *TINY, "--epochs", "1", "--output", str(output)]) == 0
    return output


@pytest.fixture(scope="module")
def model(run_directory):
    return sources.load_model(run_directory)


# === train ===


def test_train_writes_the_run(run_directory):
    names = {path.name for path in run_directory.iterdir()}
    expected = {"model.keras", "best.keras", "preset", "log.csv", "arguments.json"}
    expected |= {"curves.png", "detections.png", "state.weights.h5"}
    assert names == expected
    (row,) = csv.DictReader((run_directory / "log.csv").open())
    assert row["epoch"] == "0" and 0 <= float(row["val_AP"]) <= 1 and float(row["loss"]) > 0
    record = json.loads((run_directory / "arguments.json").read_text())
    assert record["arguments"]["head_depth"] == 1
    assert record["class_names"] == ["circle", "square", "triangle"]


def test_models_of_a_run_are_the_same_detector(run_directory, model):
    images = np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    models = [
        sources.load_model(run_directory / "best.keras"),
        sources.load_model(run_directory / "preset"),
        model,
    ]
    outputs = [keras.ops.convert_to_numpy(model(images)["scores"]) for model in models]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-6)
    np.testing.assert_allclose(outputs[2], outputs[0], atol=1e-6)
    assert models[0].class_names == ["circle", "square", "triangle"]
    assert models[0].image_size == (64, 64)


@pytest.mark.parametrize(
    "options, detector, output",
    [
        ("--detector fcos --distribution-guided", "FCOS", "box_distributions"),
        ("--detector retinanet --reg-max 8", "RetinaNet", "box_deltas"),
    ],
)
def test_other_detectors_train(options, detector, output, tmp_path):
    run = tmp_path / "run"
    command = ["train", *DATA[:2], *TINY, "--epochs", "1", "--output", str(run), *options.split()]
    assert cli.main(command) == 0
    trained = sources.load_model(run)
    assert type(trained).__name__ == detector and trained.representation.output_name == output
    assert getattr(trained, "distribution_guided", False) == ("guided" in options)
    if "--reg-max" in options:
        assert trained.reg_max == 8
    # Its preset folder starts a training of other classes, as any --model does.
    base = sources.load_model(run / "preset")
    adapted = sources.adapt_model(base, class_names=["x"], num_classes=1)
    assert type(adapted) is type(trained) and adapted.num_classes == 1


def test_used_folder_is_refused_without_resume(run_directory, capsys):
    message = fails(capsys, "train", *DATA, *TINY, "--output", run_directory)
    assert "not empty" in message and "--resume" in message


def test_resume_continues_with_the_saved_arguments(tmp_path, capsys):
    """One epoch and then a second equal two epochs in one go."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["train", "--data", "shapes:train:4", *TINY, "--epochs", "2"]
    assert cli.main([*arguments, "--output", str(whole)]) == 0

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            signal.raise_signal(signal.SIGTERM)

    make_callbacks = train_callbacks.train_callbacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train_callbacks, "train_callbacks", lambda *args: [Interrupt(), *make_callbacks(*args)]
        )
        assert cli.main([*arguments, "--output", str(parts)]) == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert f"train --output {parts} --resume" in capsys.readouterr().err
    assert cli.main(["train", "--output", str(parts), "--resume"]) == 0
    assert "from step 0 of epoch 2" in capsys.readouterr().out

    epochs, losses = zip(*((row["epoch"], row["loss"]) for row in read_log(parts)))
    assert epochs == ("0", "1")
    expected = [float(row["loss"]) for row in read_log(whole)]
    np.testing.assert_allclose([float(loss) for loss in losses], expected, rtol=1e-3)
    for a, b in zip(
        sources.load_model(whole).get_weights(), sources.load_model(parts).get_weights()
    ):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def read_log(run):
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_best_ap_is_of_finished_epochs_and_of_a_model_that_is_there(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log.write_text("epoch,loss,val_AP\n0,3.0,0.1\n1,2.0,0.4\n2,1.0,0.9\n")
    assert folder.best_ap(2) is None
    folder.best.write_bytes(b"half a model")
    assert folder.best_ap(2) == 0.4
    folder.clear_leftovers()
    assert folder.best_ap(2) is None and not folder.best.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--head-channels 32", "--head-channels was 16"),
        ("--batch-size 2", "--batch-size was 4"),
        ("--precision mixed_bfloat16", "--precision was 'float32'"),
        ("--image-size 32 32", "--image-size was [64, 64]"),
        ("--recipe 1x", "--recipe was 'scratch'"),
        ("--freeze-backbone", "--freeze-backbone was False"),
        ("--ema 0.5", "--ema was None"),
        ("--seed 1", "--seed was 0"),
        ("--hue 0.2", "--hue was 0.0"),
        ("--scale 0.5 1", "--scale was [1.0, 1.0]"),
        ("--data shapes:train:8", "--data: the number of images was 4"),
        ("--data shapes:other:4", "--data: the digest of the images"),
    ],
)
def test_what_cannot_change_within_a_run(run_directory, capsys, arguments, message):
    before = contents(run_directory)
    said = fails(capsys, "train", "--output", run_directory, "--resume", *arguments.split())
    assert message in said and said.count("\n") == 1
    assert contents(run_directory) == before


def contents(folder):
    """Every file of a folder, to see that nothing has changed in it."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_may_change_within_a_run_is_said(run_directory, tmp_path, capsys):
    """Fewer epochs than there were may not."""
    run = tmp_path / "run"
    shutil.copytree(run_directory, run)
    record = json.loads((run / "arguments.json").read_text())
    del record["arguments"]["class_balance"]  # an option of a later version
    (run / "arguments.json").write_text(json.dumps(record))
    (run / "best.keras").write_bytes((run / "best.keras").read_bytes()[:1000])
    shutil.rmtree(run / "preset")
    command = ["train", "--output", str(run), "--resume", "--epochs", "2", "--verbose", "0"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "--epochs was 1 and is 2" in printed and "without --class-balance" in printed
    assert "best.keras is damaged" in printed
    assert [row["epoch"] for row in read_log(run)] == ["0", "1"]
    assert sources.load_model(run / "best.keras").num_classes == 3
    assert sources.load_model(run / "preset").num_classes == 3
    message = fails(capsys, "train", "--output", run, "--resume", "--epochs", "1")
    assert "beyond --epochs=1" in message


def test_a_damaged_state_is_named(run_directory, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(run_directory, run)
    state = run / "state.weights.h5"
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    message = fails(capsys, "train", "--output", run, "--resume", "--epochs", "2")
    assert str(state) in message and "damaged" in message


def test_a_folder_in_use_is_refused(run_directory, tmp_path, capsys):
    """Whether it has a run or is still empty; and nothing in it changes."""
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, resume in ((empty, []), (run_directory, ["--resume"])):
        before = contents(folder)
        lock = filelock.FileLock(folder / LOCK_NAME)
        with lock:
            command = ["train", *DATA, *TINY, "--output", folder, *resume]
            assert f"{folder} is in use" in fails(capsys, *command)
        (folder / LOCK_NAME).unlink(missing_ok=True)
        assert contents(folder) == before


def test_other_classes_keep_all_weights_but_the_classification(model):
    adapted = sources.adapt_model(model, num_classes=5, class_names=list("abcde"))
    same = sources.adapt_model(model, image_size=(96, 96))
    assert adapted.num_classes == 5
    images = np.random.default_rng(1).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected, other, equal = (
        {k: keras.ops.convert_to_numpy(v) for k, v in m(images).items()}
        for m in (model, adapted, same)
    )
    key = "box_distributions"
    np.testing.assert_allclose(other[key], expected[key], atol=1e-5)
    np.testing.assert_allclose(equal["scores"], expected["scores"], atol=1e-6)
    assert other["scores"].shape[-1] == 5


# === evaluate ===


def test_evaluate_prints_a_table_and_writes_results(run_directory, tmp_path, capsys):
    output = tmp_path / "results.json"
    command = ["evaluate", "--model", str(run_directory), "--data", "shapes:val:2"]
    assert cli.main([*command, "--output", str(output), "--verbose", "0"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("AP75", "ARm", "triangle"))
    assert str(output) in printed.splitlines()[-1]
    metrics = json.loads((tmp_path / "results.metrics.json").read_text())
    best = max(float(row["val_AP"]) for row in read_log(run_directory))
    assert metrics["AP"] == pytest.approx(best, abs=1e-3)
    for entry in json.loads(output.read_text()):
        assert set(entry) == {"image_id", "category_id", "bbox", "score"}
        assert entry["category_id"] in (1, 2, 3)


def test_several_views_in_evaluate_and_predict(run_directory, tmp_path, capsys):
    command = ["evaluate", "--model", str(run_directory), "--data", "shapes:val:2"]
    assert cli.main([*command, "--tta", "1,1.25", "--box-voting", "--verbose", "0"]) == 0
    assert "AP75" in capsys.readouterr().out
    picture = Path(__file__).parents[1] / "examples" / "bccd_detections.jpg"
    command = ["predict", "--model", "nano_bccd", "--verbose", "0", str(picture)]
    found = []
    for views in ([], ["--tta", "1,1.25"], ["--tta", "1,1.25", "--box-voting"]):
        output = tmp_path / str(len(views))
        assert cli.main([*command, *views, "--output", str(output)]) == 0
        found.append(json.loads((output / "detections.json").read_text()))
    assert all(found) and found[0] != found[1] != found[2]
    assert cli.main([*command, "--box-voting", "--output", str(tmp_path / "none")]) == 2
    assert "--tta" in capsys.readouterr().err


def test_table_of_metrics():
    metrics = {name: 0.25 for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
    metrics |= {name: 0.5 for name in ("AR1", "AR10", "AR100", "ARs", "ARm")} | {"ARl": -1.0}
    metrics |= {"per_class": {"platelet": 0.125}, "per_class_AP50": {"platelet": -1.0}}
    lines = evaluate.format_metrics(metrics).splitlines()
    assert lines[1].split() == ["0.250"] * 6
    assert lines[3].split() == ["0.500"] * 5 + ["-"]
    assert lines[5].split() == ["platelet", "0.125", "-"]


def test_table_has_a_line_for_what_counts_all_detections():
    metrics = {name: 0.25 for name in METRIC_NAMES} | {"AP_all": 0.75, "AR_all": 0.875}
    metrics |= {"per_class": {"cell": 0.25}, "per_class_AP50": {"cell": 0.25}}
    lines = evaluate.format_metrics(metrics).splitlines()
    assert [line.split() for line in lines[4:6]] == [["AP_all", "AR_all"], ["0.750", "0.875"]]


def test_evaluate_mistakes(run_directory, tmp_path, capsys):
    missing = fails(capsys, "evaluate", "--model", "no.keras", "--data", "shapes:val")
    assert "no.keras does not exist" in missing
    unknown = fails(capsys, "evaluate", "--model", "r99_coco", "--data", "shapes:val")
    assert "r99_coco" in unknown
    (tmp_path / "broken.keras").write_text("not a model")
    fails(capsys, "evaluate", "--model", tmp_path / "broken.keras", "--data", "shapes:val")
    assert "kind" in fails(capsys, "evaluate", "--model", run_directory, "--data", "what")
