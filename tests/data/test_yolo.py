"""YOLO folders: lines, names and splits, and what is said about bad ones."""

import data_forms as forms
import numpy as np
import pytest
from PIL import Image

from keras_gflv2.data import Report, load_yolo
from keras_gflv2.data.yolo import read_labels, read_yolo
from keras_gflv2.data.yolo_layout import yolo_layout


def read(data, split=None, **options):
    return read_yolo(data, split, Report(data), **options)


@pytest.mark.parametrize(
    "line, message",
    [
        ("0 0.5 0.5 0.2", "4 values"),
        ("0 0.5 0.5 0.2 0.2 0.9", "confidence of a prediction"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 values"),
        ("2 0.5 0.5 0.2 0.2", r"0\.\.1. Received: 2"),
        ("-1 0.5 0.5 0.2 0.2", r"0\.\.1. Received: -1"),
        ("0.5 0.5 0.5 0.2 0.2", "whole number"),
        ("nan 0.5 0.5 0.2 0.2", "whole number"),
        ("cat 0.5 0.5 0.2 0.2", "expected numbers"),
        ("0 100 50 20 30", "fractions of the image"),
    ],
)
def test_malformed_lines_are_named_by_file_and_number(tmp_path, line, message):
    path = forms.write_text(tmp_path / "a.txt", f"0 0.5 0.5 0.2 0.2\n\n{line}\n")
    with pytest.raises(ValueError, match=rf"a\.txt:3: .*{message}"):
        read_labels(path, 2)


def test_lines_of_other_tasks(tmp_path):
    path = forms.write_text(
        tmp_path / "a.txt",
        "1.0 0.5 0.5 0.25 0.5 0.1 0.2 2 0.3 0.4 1\n"  # a pose: two points of x, y, visible
        "0 0.25 0.125 0.5 0.25 0.375 0.5 0.125 0.375\n",  # an oriented box
    )
    rows = read_labels(path, 2, keypoints=6)
    assert [label for label, _, _ in rows] == [1, 0]
    np.testing.assert_allclose(rows[0][2], [0.375, 0.25, 0.625, 0.75])
    np.testing.assert_allclose(rows[1][2], [0.125, 0.125, 0.5, 0.5])


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: images/train\nnames: [cat, dog]\nnc: 3\n", "`nc` is 3, but `names` has 2"),
        ("train: images/train\nnames: {0: cat, 2: dog}\n", "without gaps"),
        ("train: images/train\nnames: {a: cat}\n", "must be numbers"),
        ("train: images/train\nnames: 3\n", "list of the classes"),
        ("names: [cat, dog]\n", "names no images"),
        ("just text", "not a data.yaml"),
        ("a: [", "not a valid YAML"),
    ],
)
def test_descriptions_that_cannot_be_used(tmp_path, text, message):
    path = forms.ultralytics(tmp_path)
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"data\.yaml.*{message}"):
        read(path)


def test_splits_that_are_not_there(tmp_path):
    path = forms.ultralytics(tmp_path)
    with pytest.raises(ValueError, match=r"no split 'test'.*\['train', 'val'\]"):
        read(path, "test")
    path.write_text(path.read_text().replace("images/val", "images/nothing"))
    assert len(read(path, "train").records) == 2
    with pytest.raises(FileNotFoundError, match="`val` names 'images/nothing'"):
        read(path, "val")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "nothing.yaml")


def test_missing_files_of_labels_are_counted_but_not_all_may_be_missing(tmp_path):
    path = forms.ultralytics(tmp_path)
    with pytest.warns(UserWarning, match="took 1 images without a file of labels"):
        ds = load_yolo(path, "val", image_size=(64, 64))
    assert ds.report["missing_labels"] == 1 and ds.report["images_without_boxes"] == 1
    (tmp_path / "labels").rename(tmp_path / "annotations")
    with pytest.raises(FileNotFoundError, match=r"none of its images.*labels.train.a\.txt"):
        read(path, "train")


def test_images_that_a_list_has_and_the_folder_not(tmp_path):
    path = forms.ultralytics_lists(tmp_path)
    (tmp_path / "images/val/d.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"d\.jpg does not exist, but .*data\.yaml lists"):
        read(path, "val")


def test_class_names_set_the_order_and_leave_out(tmp_path):
    path = forms.ultralytics(tmp_path)
    found = read(path, "train", class_names=["dog", "cat"])
    assert (found.class_names, found.category_ids) == (["dog", "cat"], [1, 0])
    assert forms.objects_of(found)["a"] == forms.TRUTH["a"]
    with pytest.raises(ValueError, match=r"a\.txt:1: the class 0 \(cat\) is unknown"):
        read(path, "train", class_names=["dog"])
    with pytest.raises(ValueError, match=r"\['bird'\], which .*data\.yaml does not define"):
        read(path, "train", class_names=["bird"])


def test_classes_without_names_are_numbered(tmp_path):
    folder = forms.label_studio_yolo(tmp_path)
    (folder / "classes.txt").unlink()
    with pytest.warns(UserWarning, match="named 2 classes by their numbers"):
        ds = load_yolo(folder, image_size=(64, 64))
    assert ds.class_names == ["class_0", "class_1"]
    assert read(folder, class_names=["cat", "dog"]).class_names == ["cat", "dog"]


def test_fractions_are_those_of_the_upright_picture(tmp_path):
    """As ultralytics reads them."""
    folder = forms.label_studio_yolo(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(folder / "images/d.jpg").copy()  # upright it is 64 high, 32 wide
    image.save(folder / "images/d.jpg", exif=exif)
    record = next(r for r in read(folder).records if r.name.endswith("d.jpg"))
    assert (record.height, record.width, record.exif) == (64, 32, True)
    x1, y1, x2, y2 = forms.TRUTH["d"][0][1]
    np.testing.assert_allclose(record.boxes[0], [x1 / 2, y1 * 2, x2 / 2, y2 * 2], atol=1e-3)


def test_a_folder_with_two_descriptions_is_refused(tmp_path):
    forms.ultralytics(tmp_path)
    (tmp_path / "other.yaml").write_text("train: images/train\nnames: [a]\n")
    (tmp_path / "model.yaml").write_text("layers: 3\n")
    with pytest.raises(ValueError, match=r"\['data\.yaml', 'other\.yaml'\]"):
        yolo_layout(tmp_path)
