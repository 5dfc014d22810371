"""The command: what it trains and measures, and that it goes on where it stopped."""

import re

import pytest
import tensorflow as tf

from keras_gflv2.reproduction import command, setups, speed
from keras_gflv2.reproduction.results import ResultsFolder
from keras_gflv2.reproduction.setups import Setup, choose

DATA = ["--small", "--data", "shapes:train:8", "--validation-data", "shapes:val:4"]
TINY = [*DATA, "--epochs", "1", "--seeds", "0", "--verbose", "0"]


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Detectors of 4 channels instead of 48, step by step: a graph would run but once."""
    monkeypatch.setitem(setups.SMALL_SHAPES, "sizes", {
        "fpn_channels": 4, "head_channels": 4, "head_depth": 1, "head_norm_groups": 2,
    })  # fmt: skip
    monkeypatch.setattr(speed, "TURNS", 1)
    monkeypatch.setattr(speed, "WARM_UP", 0)
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_rows_are_trained_once_and_measured(tmp_path, capsys):
    output = ["--output", str(tmp_path)]
    assert command.main(["6", "--rows", "gflv1", *TINY, *output, "--only", "train"]) == 0
    first = (tmp_path / "results.csv").read_bytes()
    (line,) = ResultsFolder(tmp_path).results.read()
    assert (line["row"], line["seed"], line["steps"]) == ("gflv1", "0", "1")
    assert 0 <= float(line["AP"]) <= 1 and -1 <= float(line["correlation"]) <= 1
    assert not list((tmp_path / "training").glob("*/*"))  # no state is left
    assert "Training gflv1" in capsys.readouterr().out

    assert command.main(["4", "--rows", "gflv1", *TINY, *output, "--only", "train"]) == 0
    assert "Training" not in capsys.readouterr().out  # Table 4 shares the row
    assert (tmp_path / "results.csv").read_bytes() == first
    assert command.main(["8", "--rows", "gflv1", *TINY, *output]) == 0
    out = capsys.readouterr().out
    assert "Training" not in out and "Measuring gflv1" in out
    (line,) = ResultsFolder(tmp_path).speed.read()
    assert float(line["inference_ratio"]) > 0 and float(line["training_ms"]) > 0
    assert "## Table 8" in (tmp_path / "tables.md").read_text()


def test_claims_have_more_seeds():
    arguments = command.parser().parse_args(["all", "--small"])
    pairs = command._trainings(["k2", "gflv2", "retinanet+dgqp"], arguments)
    seeds = {row: [seed for name, seed in pairs if name == row] for row, _ in pairs}
    assert seeds == {"k2": [0, 1], "gflv2": [0, 1, 2], "retinanet+dgqp": [0, 1, 2]}
    assert [seed for _, seed in pairs] == sorted(seed for _, seed in pairs)
    arguments.seeds = [4]
    assert command._trainings(["k2", "gflv2"], arguments) == [("k2", 4), ("gflv2", 4)]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["all"], "--data is missing"),
        (["all", "--data", "voc:BCCD:train"], "add --validation-data"),
        (["4", "--rows", "fcos", "--small"], "table 4 has gflv1, composed-16"),
        (["merge", "nowhere"], "no setup.json"),
    ],
)
def test_mistakes_are_explained(arguments, message, tmp_path, capsys):
    assert command.main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_full_scale_is_the_papers():
    setup = choose("coco:COCO")
    assert setup.data == "coco:COCO/annotations/instances_train2017.json:COCO/train2017"
    assert setup.validation_data == "coco:COCO/annotations/instances_val2017.json:COCO/val2017"
    assert (setup.image_size, setup.batch_size, setup.recipe) == ((800, 1333), 16, "1x")
    assert setup.backbone == {"preset": "resnet50_imagenet", "frozen_stages": 1}
    assert setup.sizes == {} and setup.epochs is setup.learning_rate is None
    plan = setup.plan(range(7330))
    assert (plan.epochs, plan.decay_epochs, plan.learning_rate) == (12, [8, 11], 0.01)


def test_small_setups_survive_json():
    for setup in (choose("shapes", small=True), choose("voc:BCCD", small=True)):
        assert Setup.from_json(setup.to_json()).to_json() == setup.to_json()
        assert Setup.from_json(setup.to_json()).image_size == setup.image_size


def test_help_names_the_tables(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert re.search(r"1 to 6, 8, or all", capsys.readouterr().out)
