"""Images that are divided into those to train and those to validate on, by their names."""

import data_forms as forms
import numpy as np
import pytest

from keras_gflv2.data import load_shapes, load_voc
from keras_gflv2.data.division import divide
from keras_gflv2.data.records import Record


def records(names):
    none = np.zeros((0,))
    return [Record(None, n, 1, 1, none, none, none, none, n) for n in names]


def names_of(names, fraction, subset, seed=0):
    return [record.name for record in divide(records(names), fraction, subset, seed)]


def test_every_image_is_on_one_side_and_nearly_all_stay_there():
    names = [f"photo_{index}.jpg" for index in range(1000)]
    val, train = (names_of(names, 0.2, subset) for subset in ("val", "train"))
    assert sorted(val + train) == sorted(names)
    assert len(val) == 200
    before, after = set(names_of(names[:900], 0.2, "val")), set(val) & set(names[:900])
    assert len(before ^ after) < 20  # the standard deviation of the border is 4
    assert set(val) <= set(names_of(names, 0.3, "val"))
    assert set(names_of(names, 0.2, "val", seed=1)) != set(val)
    png = [name.replace(".jpg", ".png") for name in names]
    assert names_of(png, 0.2, "val") == [name.replace(".jpg", ".png") for name in val]


def test_versions_of_one_picture_stay_together():
    """Roboflow writes several with different augmentations."""
    names = [f"{index}_jpg.rf.{version:032x}.jpg" for index in range(50) for version in range(3)]
    val = names_of(names, 0.3, "val")
    assert len(val) == 45 == 3 * len({name.partition(".rf.")[0] for name in val})


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_no_side_is_empty(fraction):
    assert names_of("ab", fraction, "val") and names_of("ab", fraction, "train")
    with pytest.raises(ValueError, match="cannot divide 1 images"):
        names_of("a", fraction, "val")


def test_options_that_cannot_be_used_together():
    for options in (
        {"validation_fraction": 0.2},
        {"subset": "train"},
        {"validation_fraction": 0.2, "subset": "test"},
        {"validation_fraction": 1.0, "subset": "val"},
        {"validation_fraction": -0.1, "subset": "val"},
    ):
        with pytest.raises(ValueError, match="validation_fraction"):
            load_shapes("train", num_images=2, **options)


def test_any_loader_divides():
    parts = [
        load_shapes("train", num_images=12, size=32, validation_fraction=0.5, subset=subset)
        for subset in ("train", "val")
    ]
    names = [name for part in parts for name in part.file_names]
    assert len(names) == len(set(names)) == 12
    assert parts[0].num_images + parts[1].num_images == 12
    assert parts[1].report["images"] == parts[1].num_images == len(parts[1].image_ids)
    batch = next(iter(parts[1]))
    assert batch["image_ids"].numpy()[0] == parts[1].image_ids[0]


def test_a_voc_folder_without_lists_has_two_parts_and_says_so(tmp_path):
    folder = forms.voc_two_folders(tmp_path)
    with pytest.warns(UserWarning, match="by a hash of their names"):
        parts = [load_voc(folder, split, image_size=(64, 64)) for split in ("train", "val")]
    assert sorted(parts[0].image_ids + parts[1].image_ids) == ["a", "b", "c", "d"]
    assert load_voc(folder, image_size=(64, 64)).num_images == 4
    with pytest.raises(FileNotFoundError, match=r"'test' needs the file.*no list of images"):
        load_voc(folder, "test")
