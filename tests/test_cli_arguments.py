"""Arguments of the command line, and what it says to mistakes in them and to errors."""

import http.client
import json
import os
import sys
import zipfile

import h5py
import pytest
from cli_commands import DATA, TINY, fails

from keras_gflv2 import cli, recipes
from keras_gflv2.cli import sources, train_options, train_plan


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("coco:a/instances.json:a/images", ("coco", ["a/instances.json", "a/images"])),
        ("voc:/data/VOC2007:trainval", ("voc", ["/data/VOC2007", "trainval"])),
        ("tfds:bccd:train", ("tfds", ["bccd", "train"])),
        ("tfds:coco/2017:1.1.0:train[:10%]", ("tfds", ["coco/2017:1.1.0", "train[:10%]"])),
        ("tfds:voc:train[5:7]", ("tfds", ["voc", "train[5:7]"])),
        ("shapes:train", ("shapes", ["train"])),
        ("shapes:val:16", ("shapes", ["val", "16"])),
        ("voc:/data/pets", ("voc", ["/data/pets"])),
        ("yolo:pets/data.yaml:val", ("yolo", ["pets/data.yaml", "val"])),
        ("csv:labels.csv:photos", ("csv", ["labels.csv", "photos"])),
        (".", ("path", ["."])),
    ],
)
def test_data_specs(spec, expected):
    assert sources.parse_data(spec) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("via:a:b", "coco:ANNOTATIONS.json:IMAGE_DIR"),
        ("a/folder", "no known kind"),
        ("coco:a.json", "Expected: coco:ANNOTATIONS.json:IMAGE_DIR"),
        ("voc::train", "Expected: voc:DIR:SPLIT"),
        ("shapes:", "Expected: shapes:SPLIT"),
        ("shapes:train:many", "NUM_IMAGES must be a number"),
    ],
)
def test_bad_data_specs_show_the_form(spec, message):
    with pytest.raises(ValueError, match="Expected") as error:
        sources.parse_data(spec)
    assert message in str(error.value)


@pytest.mark.parametrize("command", ["demo", "train", "evaluate", "predict", "convert"])
def test_help_explains_every_option(command, capsys):
    assert cli.main([command, "--help"]) == 0
    assert "(default: " in capsys.readouterr().out
    _, subparsers = cli.build_parser()
    assert all(action.help for action in subparsers[command]._actions)


def test_argument_errors_return_two(capsys):
    assert cli.main([]) == 2
    assert cli.main(["train"]) == 2
    assert cli.main(["train", "--output", "x", "--epochs", "0"]) == 2
    assert "above 0" in capsys.readouterr().err


def test_presets_are_grouped_by_detector(capsys):
    assert cli.main(["presets", "--urls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    groups, names = {}, None
    for line in lines:
        first = line.split(" ")[0]
        if " val AP " in line:
            names = groups.setdefault(first, [])
        elif names is not None and first:
            names.append(first)
    for detector, name in (
        ("GFLV2", "nano_bccd"),
        ("GFLV1", "gflv1_r34_ld_coco"),
        ("ATSS", "atss_r101_1x_coco"),
        ("FCOS", "fcos_r50_caffe_1x_coco"),
        ("FoveaBox", "fovea_r50_1x_coco"),
        ("RetinaNet", "retinanet_r50_2x_coco"),
    ):
        assert name in groups[detector]
    assert any(line.startswith("fovea_r50_1x_coco: https://") for line in lines)


def test_the_rate_is_for_the_images_of_an_update():
    dataset = [None] * 10
    for arguments, rate in (("", 0.005), ("--accumulate 4", 0.02), ("--learning-rate 0.1", 0.1)):
        command = f"train --output x --batch-size 8 --recipe 1x {arguments}".split()
        plan = train_plan.plan_of(cli.parse_arguments(command), dataset)
        assert (plan.learning_rate, plan.steps_per_epoch) == (pytest.approx(rate), 10)


def test_mistakes_about_detectors(tmp_path, capsys):
    for arguments, message in (
        ("--distribution-guided", "GFLV2 is GFLV1 with it"),
        ("--detector gflv1 --distribution-guided", "other detectors than GFLV1"),
        ("--detector fcos --model nano_bccd", "leave out --detector"),
    ):
        said = fails(capsys, "train", *DATA, *TINY, "--output", tmp_path, *arguments.split())
        assert message in said


def test_train_mistakes(tmp_path, capsys):
    assert "--data is missing" in fails(capsys, "train", "--output", tmp_path / "a")
    message = fails(capsys, "train", "--data", "coco:no.json:x", "--output", tmp_path / "a")
    assert "no.json does not exist" in message
    assert not (tmp_path / "a").exists()  # nothing to clear away before the next try
    message = fails(capsys, "train", *DATA, *TINY, "--output", tmp_path / "a", "--hue", "3")
    assert "hue" in message


def test_resume_mistakes(tmp_path, capsys):
    assert "no run to resume" in fails(capsys, "train", "--output", tmp_path, "--resume")
    good = {"batch_size": 4, "data": "shapes:train:4"}
    for text, message in (
        ("", "is damaged"),
        ('{"arguments": {"batch_s', "is damaged"),
        ("[" * 100_000, "is damaged"),
        ("[1, 2]", "is damaged"),
        ('{"class_names": []}', "is damaged"),
        ('{"arguments": 3}', "is damaged"),
        (json.dumps({"arguments": good | {"batch_size": "many"}}), "--batch-size cannot be 'many'"),
        (json.dumps({"arguments": good | {"batch_size": 0}}), "--batch-size cannot be 0"),
        (json.dumps({"arguments": good | {"backbone": "vgg"}}), "--backbone cannot be 'vgg'"),
        (json.dumps({"arguments": good | {"run": "x"}}), "does not know: run"),
        (
            json.dumps({"arguments": good | {"colour": 1}, "versions": {"keras_gflv2": "0.9"}}),
            "does not know: colour. It was written by version 0.9",
        ),
    ):
        (tmp_path / "arguments.json").write_text(text)
        said = fails(capsys, "train", "--output", tmp_path, "--resume")
        assert message in said and str(tmp_path / "arguments.json") in said


# === Errors ===


def test_errors_inside_tf_data_are_told_in_their_own_words():
    tf = pytest.importorskip("tensorflow")
    text = "ValueError: The image a.jpg cannot be decoded: cut short\nTraceback (most ...)"
    error = tf.errors.InvalidArgumentError(None, None, text)
    assert cli.user_message(error) == "The image a.jpg cannot be decoded: cut short"
    assert cli.user_message(tf.errors.InternalError(None, None, "a bug")) is None
    text = "KeyError: 'a bug'\nTraceback (most ...)"
    assert cli.user_message(tf.errors.UnknownError(None, None, text)) is None
    full = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    assert "--batch-size" in cli.user_message(full)


def raised(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error


def test_mistakes_in_files_and_answers_are_one_line_and_bugs_are_not(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file, zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        for error in (
            raised(file.__getitem__, "layers"),  # a KeyError
            raised(z.read, "config.json"),  # another
            raised(json.loads, "{"),
            raised(b"\xff".decode),
            raised(zipfile.ZipFile, tmp_path / "a.h5"),
            http.client.IncompleteRead(b"", 10),
            http.client.BadStatusLine("?"),
            MemoryError(),
            ValueError("one line\nand another"),
        ):
            message = cli.user_message(error)
            assert message and "\n" not in message
    for bug in (raised({}.__getitem__, "key"), raised([].pop), raised(json.dumps, 1j)):
        assert cli.user_message(bug) is None


def test_a_reader_who_has_enough_ends_the_command_quietly(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", closed)
        assert cli.main(["presets"]) == cli.EXIT_BROKEN_PIPE
    assert capsys.readouterr().err == ""


def test_train_offers_every_recipe():
    assert set(train_options.RECIPES) == set(recipes.RECIPES)
