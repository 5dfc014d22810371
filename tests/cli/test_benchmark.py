"""`keras-gflv2 benchmark`: its table, its file, and the operations that it counts."""

import csv

import keras
import pytest
from cli_commands import fails
from common import small_model

import keras_gflv2
from keras_gflv2 import cli
from keras_gflv2.benchmarking import report
from keras_gflv2.benchmarking.operations import count_operations
from keras_gflv2.benchmarking.turns import Subject, measure_in_turn


def test_operations_of_a_network_counted_by_hand():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(8, 3, 2, "same", data_format="channels_last")(inputs)
    shared = keras.layers.Conv2D(8, 3, padding="same", groups=2, data_format="channels_last")
    x = shared(shared(keras.layers.ReLU()(x)))
    x = keras.layers.DepthwiseConv2D(3, padding="same", data_format="channels_last")(x)
    outputs = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, outputs)
    strided = 10 * 12 * 8 * (9 * 3)
    grouped = 10 * 12 * 8 * (9 * 4)
    depthwise = 10 * 12 * 8 * 9
    dense = 8 * 5
    expected = 2 * (strided + 2 * grouped + depthwise + dense)
    assert count_operations(model, 20, 24) == expected
    assert count_operations(model, 20, 24, batch=3) == 3 * expected
    model.predict_on_batch(keras.ops.zeros((1, 20, 24, 3)))  # as it was before


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the same, but slow")
def test_operations_of_resnet_50_are_the_published_ones():
    model = keras_gflv2.GFLV2.from_preset("r50_coco", load_weights=False)
    assert count_operations(model, 800, 1344) == pytest.approx(436e9, rel=1e-3)


@pytest.mark.slow
def test_the_command_measures_every_part(tmp_path, capsys):
    backend = keras.backend.backend()
    small_model().save(tmp_path / "small.keras")
    file = tmp_path / "out" / "benchmark.csv"
    options = ["--backend", backend, "--size", "64x96", "--repeat", "2", "--output", str(file)]
    command = ["benchmark", "--model", str(tmp_path / "small.keras"), *options]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "**small.keras**, 1 image of 64x96:" in said
    assert f"| {backend} |" in said and "(1.00)" in said and "GFLOP per image" in said
    with file.open(newline="") as stream:
        rows = {row["part"]: row for row in csv.DictReader(stream)}
    parts = {"network", "decoding and NMS", "end to end", "predict", "convolution"}
    assert set(rows) == parts
    for row in rows.values():
        assert row["subject"] == backend and float(row["ratio"]) == 1
        assert 0 < float(row["fastest_ms"]) <= float(row["median_ms"])
        assert row["keras"] == keras.__version__ and int(row["threads"]) >= 1 and row["cpu"]
        rate = 1000 / float(row["median_ms"])
        assert float(row["images_per_second"]) == pytest.approx(rate, rel=1e-2)
    alone = rows["end to end"]
    assert float(alone["peak_mb"]) > 50 and float(alone["first_seconds"]) > 0
    network = rows["network"]
    operations = count_operations(small_model(), 64, 96)
    rate = operations / float(network["median_ms"]) / 1e6
    assert float(network["gigaflop_per_second"]) == pytest.approx(rate, rel=1e-2)
    best = float(rows["convolution"]["gigaflop_per_second"])
    fraction = float(network["gigaflop_per_second"]) / best
    assert float(network["fraction_of_convolution"]) == pytest.approx(fraction, abs=2e-3)


def test_mistakes_are_told_at_once(tmp_path, capsys):
    command = ["benchmark", "--model", "nano_bccd"]
    assert "must be like 240x320" in fails(capsys, *command, "--size", "100")
    message = fails(capsys, "benchmark", "--model", tmp_path / "no.keras")
    assert "no.keras does not exist" in message


def test_subjects_take_turns_and_one_that_fails_is_left_out(capsys, tmp_path):
    (tmp_path / "turns_subjects.py").write_text(SUBJECTS)
    log = tmp_path / "log.txt"

    def subject(name, function):
        environment = {"PYTHONPATH": str(tmp_path)}
        arguments = {"name": name, "log": str(log)}
        return Subject(name, f"turns_subjects:{function}", arguments, ("part",), environment)

    group = [subject("A", "works"), subject("B", "works"), subject("C", "breaks")]
    said = []
    times, starts = measure_in_turn(group, 3, said.append)
    assert set(starts) == set(times) == {("A", "part"), ("B", "part")}
    assert any("C ended" in line and "no such thing" in line for line in said)
    # As they start, to see how long a call takes, and then in turn.
    assert log.read_text() == "AAABBB" + "AAABBB" + "ABABAB"


SUBJECTS = """
import time

def works(lap, name, log):
    def run():
        time.sleep(0.3)
        with open(log, "a") as file:
            file.write(name)
    return {"part": run}

def breaks(lap, name, log):
    raise ValueError("no such thing")
"""


def test_markdown_has_a_column_for_each_part():
    common = {"model": "m", "size": "64x64", "batch": 2}
    times = {("a", "network"): [0.1, 0.2, 0.3], ("b", "network"): [0.4], ("b", "step"): [1.0]}
    rows = [{**common, **report.row_of(times, subject, part, "a", 2)} for subject, part in times]
    lines = report.markdown(rows).splitlines()
    assert lines[0] == "**m**, 2 images of 64x64:"
    assert lines[2].startswith("|  | network | step |")
    assert lines[4].startswith("| a | 200 ms (1.00) |  |")
    assert lines[5].startswith("| b | 400 ms (2.00) | 1000 ms |")
