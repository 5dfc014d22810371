"""`keras-gflv2 evaluate --report` and `--compare`."""

import keras
import pytest
from cli_commands import fails
from common import small_model

from keras_gflv2 import cli
from keras_gflv2.reporting import read_report

DATA = ["--data", "shapes:val:2", "--verbose", "0"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    model = small_model(class_names=["circle", "square", "triangle"], image_size=(128, 128))
    model.save(path)
    return str(path)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tests/reporting runs it")
def test_a_report_is_compared_with_an_earlier_one(saved, tmp_path, capsys):
    pytest.importorskip("vl_convert", reason='the extra "report" is not installed')
    first, both = tmp_path / "first.html", tmp_path / "new" / "both.html"
    command = ["evaluate", "--model", saved, *DATA]
    assert cli.main([*command, "--report", str(first)]) == 0
    assert f"Wrote the report to {first}" in capsys.readouterr().out
    assert cli.main([*command, "--report", str(both), "--compare", str(first)]) == 0
    names = [run["name"] for run in read_report(both)]
    assert names == [saved, f"{saved} (2)"]


def test_mistakes_are_told_before_the_evaluation(saved, tmp_path, capsys):
    command = ["evaluate", "--model", saved, *DATA]
    assert "--compare needs --report" in fails(capsys, *command, "--compare", "other")
    assert "must end in .html" in fails(capsys, *command, "--report", tmp_path / "report.pdf")
    assert not list(tmp_path.iterdir())
