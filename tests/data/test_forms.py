"""Datasets as each annotation tool writes them have the boxes of the original."""

import warnings

import data_forms as forms
import numpy as np
import pytest

from keras_gflv2 import data
from keras_gflv2.data.recognize import recognize


@pytest.fixture(autouse=True)
def _quiet():
    """Names of other systems are repaired and counted; what is counted is tested elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@pytest.mark.parametrize("write", forms.FORMS, ids=lambda form: form.__name__)
def test_a_folder_is_recognized_and_has_the_boxes_of_the_original(write, tmp_path):
    write(tmp_path)
    found = recognize(tmp_path)
    parts = {split: source.read() for split, source in found.sources.items()}
    objects = {}
    for split, part in parts.items():
        assert part.class_names == forms.NAMES
        of_split = forms.objects_of(part)
        assert split is None or sorted(of_split) == sorted(forms.SPLITS[split])
        objects |= of_split
    assert objects == forms.TRUTH
    assert set(parts) == ({"train", "val"} if write in forms.HAVE_SPLITS else {None})
    assert "splits" in str(found)


def test_a_folder_in_a_folder(tmp_path):
    forms.coco_original(tmp_path / "download" / "pets")
    assert set(recognize(tmp_path / "download").sources) == {"train", "val"}


def test_files_are_recognized(tmp_path):
    forms.coco_original(tmp_path)
    (source,) = recognize(tmp_path / "annotations/instances_val2017.json").sources.values()
    assert str(source) == (f"coco:{tmp_path}/annotations/instances_val2017.json:{tmp_path}/val2017")
    yolo = recognize(forms.ultralytics(tmp_path / "yolo"))
    assert [str(source) for source in yolo.sources.values()] == [
        f"yolo:{tmp_path}/yolo/data.yaml:train",
        f"yolo:{tmp_path}/yolo/data.yaml:val",
    ]
    table = recognize(forms.keras_retinanet(tmp_path / "csv"))
    assert table.source("val", None).kind == "csv" and table.source("val") is None


@pytest.mark.parametrize("write", [forms.ultralytics, forms.automl], ids=["yolo", "csv"])
def test_batches_have_the_boxes_of_the_original(write, tmp_path):
    path = write(tmp_path)
    load = data.load_yolo if write == forms.ultralytics else data.load_csv
    ds = load(path, split="train", image_size=(64, 64), batch_size=2)
    assert (ds.num_images, ds.class_names) == (2, forms.NAMES)
    (batch,) = list(ds)
    classes, boxes = (batch["bounding_boxes"][key].numpy() for key in ("classes", "boxes"))
    scale = 64 / 50  # of the first image, 40 x 50, whose sides are whole pixels
    expected = [np.array(box) * scale for _, box in forms.TRUTH["a"]]
    np.testing.assert_allclose(boxes[0][classes[0] >= 0], expected, atol=0.2)
    names = [ds.class_names[index] for index in classes[1][classes[1] >= 0]]
    assert names == [name for name, _ in forms.TRUTH["b"]]
