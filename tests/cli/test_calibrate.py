"""`keras-gflv2 calibrate`, and `predict --coverage` of what it wrote."""

import json

import numpy as np
import pytest
from cli_commands import coco_of, fails
from common import small_model
from PIL import Image
from serving.conftest import cells

from keras_gflv2 import cli
from keras_gflv2.cli import sources


def test_what_is_calibrated_predicts_with_intervals(tmp_path, capsys):
    for seed, name in enumerate(("first.png", "second.png")):
        Image.fromarray(cells(seed, (240, 320))).save(tmp_path / name)
    model = sources.load_model("nano_bccd")
    (found,) = model.detect(tmp_path / "first.png", coverage=0.9)
    assert len(found["boxes"])
    output = tmp_path / "out"
    command = ["predict", str(tmp_path / "first.png"), "--model", "nano_bccd", "--verbose", "0"]
    assert cli.main([*command, "--output", str(output), "--coverage", "0.9"]) == 0
    entries = json.loads((output / "detections.json").read_text())
    np.testing.assert_allclose([e["intervals"] for e in entries], found["intervals"], atol=0.1)

    # Data that the detector knows by its own detections: the errors are none.
    data = coco_of(model, [tmp_path / "first.png", tmp_path / "second.png"], tmp_path)
    command = ["calibrate", "--model", "nano_bccd", "--data", data, "--verbose", "0"]
    with pytest.warns(UserWarning, match="Only|No detection"):
        assert cli.main([*command, "--output", str(tmp_path / "preset")]) == 0
    printed = capsys.readouterr().out
    assert "detections match an object" in printed and "Wrote the detector" in printed
    calibrated = sources.load_model(str(tmp_path / "preset"))
    assert calibrated.calibration.num_matched >= 20
    (exact,) = calibrated.detect(tmp_path / "first.png", coverage=0.9)
    widths = [np.ptp(one["intervals"], axis=-1).mean() for one in (exact, found)]
    assert widths[0] < 0.5 * widths[1]


def test_calibrate_mistakes(tmp_path, capsys):
    file = tmp_path / "small.keras"
    small_model(image_size=(64, 64)).save(file)
    command = ["calibrate", "--model", file, "--data", "shapes:val:2"]
    assert "overlaps an object" in fails(
        capsys, *command, "--output", tmp_path / "out", "--verbose", "0"
    )
    command = ["predict", "--model", file, "--output", tmp_path / "out"]
    Image.fromarray(cells(0, (60, 90))).save(tmp_path / "a.png")
    assert "keras-gflv2 calibrate" in fails(capsys, *command, tmp_path / "a.png", "--coverage", 0.9)
    assert "less than 1" in fails(capsys, *command, tmp_path / "a.png", "--coverage", 1)
