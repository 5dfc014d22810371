"""`keras-gflv2 predict`: what it writes of images, folders and videos, and how it goes on."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest
from cli_commands import fails
from common import small_model
from PIL import Image
from serving.conftest import cells

from keras_gflv2 import cli
from keras_gflv2.cli import predictions
from keras_gflv2.postprocessing import PredictionDecoder

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A file of a detector with random weights, which finds what it is least unsure of."""
    path = tmp_path_factory.mktemp("detector") / "small.keras"
    decoder = PredictionDecoder(score_threshold=1e-6, max_detections=6)
    names = ["a", "b/c", "d"]
    small_model(image_size=(64, 64), class_names=names, prediction_decoder=decoder).save(path)
    return path


@pytest.fixture(scope="module")
def picture_directory(tmp_path_factory):
    """A folder with two pictures and three files which are none."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype("uint8")
    Image.fromarray(noise).save(folder / "a.jpg")
    Image.fromarray(noise[:50]).save(folder / "b.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / ".hidden").write_text("not looked at")
    return folder


def run(*arguments, code=0):
    """Runs `predict` with a low threshold; returns the entries of its detections.json."""
    output = Path(arguments[arguments.index("--output") + 1])
    options = ["--verbose", "0", "--score-threshold", "0"]
    assert cli.main(["predict", *map(str, arguments), *options]) == code
    return json.loads((output / "detections.json").read_text())


def test_predict_writes_pictures_and_one_json(detector, picture_directory, tmp_path, capsys):
    output = tmp_path / "out"
    command = [picture_directory, "--model", detector, "--draw-uncertainties"]
    entries = run(*command, "--output", output)
    printed = capsys.readouterr().out
    assert "Skipped 2 files that are not images: broken.jpg, notes.txt" in printed
    assert str(output) in printed.splitlines()[-1]
    assert {p.name for p in output.iterdir()} == {"a.jpg", "b.png", "detections.json"}
    assert Image.open(output / "a.jpg").size == (90, 60)
    assert entries
    for entry in entries:
        x, y, width, height = entry["bbox"]
        assert entry["image_id"] in (0, 1) and entry["category_id"] in (1, 2, 3)
        assert entry["file_name"].endswith(("a.jpg", "b.png"))
        assert x >= 0 and y >= 0 and x + width <= 90.01 and y + height <= 60.01
        assert len(entry["uncertainties"]) == 4 and min(entry["uncertainties"]) > 0


def test_pictures_of_the_same_name_are_numbered(detector, picture_directory, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").write_bytes((picture_directory / "a.jpg").read_bytes())
    names = [tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg", picture_directory / "b.png"]
    run(*names, "--model", detector, "--output", tmp_path / "out")
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"a.jpg", "a_2.jpg", "b.png", "detections.json"}


def test_batches_find_what_single_images_do(detector, tmp_path):
    """In a folder at any depth; images of two sizes take turns."""
    for index in range(5):
        path = tmp_path / "photos" / f"{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells(index, ((60, 90), (96, 64))[index % 2])).save(path)
    found = []
    for size in ("1", "8"):
        command = [tmp_path / "photos", "--model", detector, "--batch-size", size]
        found.append(run(*command, "--output", tmp_path / size, "--formats", "json"))
        assert [path.name for path in (tmp_path / size).iterdir()] == ["detections.json"]
    for one, other in zip(*found, strict=True):
        assert (one["file_name"], one["category_id"]) == (other["file_name"], other["category_id"])
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=0.01)
        np.testing.assert_allclose(one["score"], other["score"], atol=1e-5)


def test_all_formats_say_the_same(detector, picture_directory, tmp_path):
    output = tmp_path / "out"
    names = [picture_directory / "a.jpg", picture_directory / "b.png"]
    command = [*names, "--model", detector, "--formats", "csv", "yolo", "crops"]
    entries = run(*command, "--output", output)
    with (output / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [
        (name, line.split())
        for name in ("a", "b")
        for line in (output / "labels" / f"{name}.txt").read_text().splitlines()
    ]
    assert (output / "classes.txt").read_text() == "a\nb/c\nd\n"
    assert len(entries) == len(rows) == len(lines) > 0
    for entry, row, (name, line) in zip(entries, rows, lines):
        x, y, width, height = entry["bbox"]
        assert Path(row["path"]).stem == name and row["class"] == entry["category_name"]
        box = [float(row[column]) for column in ("xmin", "ymin", "xmax", "ymax")]
        np.testing.assert_allclose(box, [x, y, x + width, y + height], atol=2e-3)
        assert int(line[0]) == entry["category_id"] - 1
        across, down = (90, 60) if name == "a" else (90, 50)
        yolo = np.float64(line[1:]) * [across, down, across, down]
        np.testing.assert_allclose(yolo, [x + width / 2, y + height / 2, width, height], atol=1e-3)
    crops = {path.parent.name for path in (output / "crops").rglob("*.jpg")}
    assert crops == {entry["category_name"].replace("/", "_") for entry in entries}


def test_an_interrupted_run_goes_on(detector, tmp_path, capsys, monkeypatch):
    """SIGTERM after two of four images; the lists are then those of a run in one go."""
    for index in range(4):
        Image.fromarray(cells(index, (60, 90))).save(tmp_path / f"{index}.png")
    command = [f"{tmp_path}/*.png", "--model", detector, "--formats", "csv", "json"]
    whole = run(*command, "--output", tmp_path / "whole")
    add = predictions.Predictions.add

    def add_two(self, *arguments):
        add(self, *arguments)
        if self.num_images == 2:
            signal.raise_signal(signal.SIGTERM)

    parts = tmp_path / "parts"
    assert "nothing to resume" in fails(capsys, "predict", *command, "--output", parts, "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(predictions.Predictions, "add", add_two)
        half = run(*command, "--output", parts, code=143)
    told = capsys.readouterr().err
    assert "2 images are in" in told and told.strip().endswith("--resume")
    assert {entry["image_id"] for entry in half} == {0, 1}
    changed = ["--resume", "--overlap", "0.5"]
    assert "cannot change" in fails(
        capsys, "predict", *command, "--output", parts, *changed, "--score-threshold", "0"
    )
    assert run(*command, "--output", parts, "--resume") == whole
    assert {path.name for path in parts.iterdir()} == {"detections.json", "detections.csv"}
    one, other = ((tmp_path / name / "detections.csv").read_text() for name in ("parts", "whole"))
    assert one == other


def test_what_is_damaged_does_not_stop_the_others(detector, picture_directory, tmp_path, capsys):
    names = [picture_directory / name for name in ("broken.jpg", "a.jpg")]
    entries = run(*names, "--model", detector, "--output", tmp_path / "out", code=2)
    told = capsys.readouterr().err
    assert "broken.jpg is not an image" in told and "All others are done: 1." in told
    assert told.count("\n") == 1 and {entry["image_id"] for entry in entries} == {0}


def test_a_video_is_drawn_and_its_objects_keep_their_numbers(tmp_path, capsys):
    """Cells that move by two pixels a frame."""
    pytest.importorskip("cv2")
    from keras_gflv2.inputs import videos

    picture = np.concatenate([cells(0, (240, 320))] * 2, axis=1)
    file = videos.VideoFile(tmp_path / "cells.mp4", rate=20)
    for index in range(6):
        file.add(picture[:, 2 * index : 2 * index + 320], index / 20)
    file.close()
    command = ["predict", str(tmp_path / "cells.mp4"), "--model", "nano_bccd", "--verbose", "0"]
    output = tmp_path / "out"
    assert cli.main([*command, "--output", str(output), "--frame-step", "2"]) == 0
    assert videos.rate_of(str(output / "cells.mp4")) == (10, 3)
    entries = json.loads((output / "detections.json").read_text())
    moments = {(entry["image_id"], entry["frame"], entry["seconds"]) for entry in entries}
    assert moments == {(0, 0, 0.0), (1, 2, 0.1), (2, 4, 0.2)}

    pytest.importorskip("trackers")
    command += ["--formats", "json", "--score-threshold", "0.4"]
    assert cli.main([*command, "--output", str(output), "--track"]) == 0
    tracks = {}
    for entry in json.loads((output / "detections.json").read_text()):
        if "track_id" in entry:
            x = entry["bbox"][0] + entry["bbox"][2] / 2
            tracks.setdefault(entry["track_id"], []).append((entry["frame"], x))
    long = [np.array(track) for track in tracks.values() if len(track) >= 4]
    assert len(long) >= 3
    speeds = [np.polyfit(*track.T, 1)[0] for track in long]
    assert -3 < np.median(speeds) < -1


def test_predict_mistakes(detector, picture_directory, tmp_path, capsys):
    def message(*images, output=tmp_path / "out"):
        return fails(capsys, "predict", *images, "--model", detector, "--output", output)

    assert "broken.jpg" in message(picture_directory / "broken.jpg")
    assert "notes.txt" in message(picture_directory / "notes.txt")
    assert "nothing.jpg does not exist" in message(tmp_path / "nothing.jpg")
    assert "would be overwritten" in message(picture_directory, output=picture_directory)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no image" in message(empty)
    (tmp_path / "file").write_text("")
    assert "is a file" in message(picture_directory / "a.jpg", output=tmp_path / "file")
    command = ["predict", picture_directory / "a.jpg", "--output", tmp_path / "out"]
    for threshold in ("-0.1", "1.5", "nan", "much"):
        told = fails(capsys, *command, "--model", detector, "--score-threshold", threshold)
        assert "number from 0 to 1" in told
    assert "no answer" in fails(capsys, *command, "--server", "http://localhost:1/cells")
