"""`keras-gflv2 data`, and the data that other commands take."""

import json

import data_forms as forms
import pytest
from cli_commands import TINY, fails

from keras_gflv2 import DenseDetector, cli
from keras_gflv2.cli import sources
from keras_gflv2.data import Report, load_coco
from keras_gflv2.data.coco import read_coco

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize("write", [forms.roboflow_yolo, forms.automl, forms.coco_original])
def test_data_is_converted_to_coco(write, tmp_path, capsys):
    write(tmp_path / "pets")
    assert cli.main(["data", "convert", f"{tmp_path}/pets", "--output", f"{tmp_path}/p.json"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    objects = {}
    for split in ("train", "val"):
        path = tmp_path / f"p_{split}.json"
        spec = last.partition(f"coco:{path}")[2].split(")")[0]
        found = read_coco(path, spec[1:], Report(path))
        assert found.class_names == forms.NAMES
        assert not any(found.report.counts.values())
        objects |= forms.objects_of(found)
    assert objects == forms.TRUTH


def test_pictures_without_files_are_written(tmp_path, capsys):
    output = tmp_path / "shapes.json"
    assert cli.main(["data", "convert", "shapes:val:3", "--output", str(output)]) == 0
    ds = load_coco(output, tmp_path / "shapes_images", image_size=(128, 128))
    assert ds.num_images == 3 and ds.report["size_mismatches"] == 0
    assert ds.class_names == ["circle", "square", "triangle"]
    content = json.loads(output.read_text())
    assert ds.report["boxes"] == len(content["annotations"]) > 0


def test_convert_mistakes(tmp_path, capsys):
    assert "--output" in fails(capsys, "data", "convert", "shapes:val:3")
    assert "no known kind" in fails(capsys, "data", "convert", "nothing", "--output", "x.json")


def test_a_folder_gives_the_part_that_a_command_needs(tmp_path, capsys):
    forms.ultralytics(tmp_path)
    for train, names in ((True, ["a", "b"]), (False, ["c", "d"])):
        options = {"train": True, "batch_size": 2} if train else {}
        ds = sources.load_data(str(tmp_path), image_size=(64, 64), **options)
        assert sorted(name[-5] for name in ds.file_names) == names
    said = capsys.readouterr().out
    assert "taken for YOLO (data.yaml) with the splits train, val" in said
    assert f"Loading yolo:{tmp_path}:val" in said


def test_folders_that_are_nothing_or_several(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"no dataset that is known. Looked for .*YOLO"):
        sources.sources_of(str(empty))
    forms.ultralytics(tmp_path / "two")
    forms.coco_original(tmp_path / "two")
    with pytest.raises(ValueError, match=r"several datasets.*yolo:.*coco:.*instances_train2017"):
        sources.sources_of(str(tmp_path / "two"))


def validation_of(*arguments):
    command = ["train", "--output", "x", *map(str, arguments)]
    return sources.validation_spec(cli.parse_arguments(command))


def test_what_training_validates_on(tmp_path):
    split, whole = tmp_path / "split", tmp_path / "whole"
    forms.roboflow_voc(split)
    forms.voc_two_folders(whole)
    assert validation_of("--data", split) == f"voc:{split}:val"
    assert validation_of("--data", whole) is None
    fraction = ["--validation-fraction", "0.25"]
    assert validation_of("--data", whole, *fraction) == str(whole)
    assert validation_of("--data", whole, "--validation-data", "shapes:val") == "shapes:val"
    with pytest.raises(ValueError, match="leave out --validation-data"):
        validation_of("--data", whole, "--validation-data", "shapes:val", *fraction)
    with pytest.raises(ValueError, match="has images to validate on"):
        validation_of("--data", split, *fraction)


def test_train_divides_a_folder_and_says_how(tmp_path, capsys):
    folder = forms.voc_two_folders(tmp_path / "pets")
    command = ["train", "--data", f"voc:{folder}", "--validation-fraction", "0.5", *TINY]
    command += ["--batch-size", "1", "--output", str(tmp_path / "run"), "--dry-run"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "images to train on" in said and "--validation-fraction 0.5" in said


def test_train_tells_of_the_data_in_one_paragraph(tmp_path, capsys):
    forms.roboflow_yolo(tmp_path / "pets")
    command = ["train", "--data", str(tmp_path / "pets"), *TINY, "--batch-size", "1"]
    assert cli.main([*command, "--output", str(tmp_path / "run"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    (paragraph,) = [line for line in said.splitlines() if line.startswith("Data: ")]
    assert "train 2 images, 3 boxes; val 2 images, 2 boxes" in paragraph
    assert "2 classes have fewer than 10 boxes: cat (1), dog (2)" in paragraph
    assert "val: 1 class has no box here: dog" in paragraph


def test_check_ends_with_1_where_a_training_would_be_spoilt(tmp_path, capsys):
    forms.ultralytics(tmp_path / "pets")
    command = ["data", str(tmp_path / "pets"), "--image-size", "64", "64"]
    assert cli.main([*command, "--output", str(tmp_path / "report")]) == 0
    said = capsys.readouterr().out
    assert "taken for YOLO" in said and "nothing that would spoil a training" in said
    assert said.splitlines()[-1] == (
        f"Wrote report.json and contact_sheet.jpg to {tmp_path / 'report'}"
    )
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["ok"] and (tmp_path / "report" / "contact_sheet.jpg").stat().st_size > 1000
    (tmp_path / "pets/images/val/d.jpg").unlink()
    (tmp_path / "pets/labels/train/a.txt").write_text("7 0.5 0.5 0.2 0.2\n")
    assert cli.main([*command, "--json", "--quick"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    (finding,) = [f for f in report["findings"] if f["code"] == "unreadable"]
    assert "a.txt:1: the class must be a whole number 0..1" in finding["items"][0]


def test_check_for_a_detector(capsys):
    command = ["data", "shapes:train:4", "--model", "nano_bccd", "--quick", "--json"]
    assert cli.main(command) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    nano = DenseDetector.from_preset("nano_bccd", load_weights=False)
    assert settings["image_size"] == list(nano.image_size)
    assert (settings["reg_max"], settings["strides"]) == (nano.reg_max, list(nano.grid.strides))


def test_check_mistakes(capsys):
    assert "--validation-data" in fails(capsys, "data", "shapes:train:2", "shapes:val:2")
    assert "does not exist" in fails(capsys, "data", "yolo:nothing")
