"""Tables of boxes, and what is said about bad ones. Their many forms are in `test_forms`."""

import data_forms as forms
import pytest

from keras_gflv2.data import Report, load_csv
from keras_gflv2.data.csv_files import read_csv

HEADER = "image,xmin,ymin,xmax,ymax,class\n"


def read(folder, text, image_dir=None, **options):
    for stem in forms.SIZES:
        forms.write_image(folder / f"{stem}.jpg", stem)
    path = forms.write_text(folder / "labels.csv", text)
    return read_csv(path, image_dir, Report(path), **options)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not a table of boxes. It needs a header"),
        ("image,name of the photographer\na.jpg,me\n", "not a table of boxes"),
        (HEADER, "no object"),
        (HEADER + "a.jpg,1,2,3,four,cat\n", r":2: y2 must be a number"),
        (HEADER + "a.jpg,1,2,3,4,cat\n,1,2,3,4,cat\n", ":3 has no path"),
        (HEADER + "a.jpg,1,2,3,4,\n", ":2 has a box and no class"),
        (HEADER + "a.jpg,1,,3,4,cat\n", ":2: ymin must be|:2: y1 must be"),
        ("image,bbox,class\na.jpg,[1 2 3],cat\n", ":2: the box must have four"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"labels\.csv.*(?:{message})"):
        read(tmp_path, text)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg does not exist.*labels\.csv"):
        read(tmp_path, HEADER + "a.jpg,1,2,30,40,cat\nnothing.jpg,1,2,30,40,cat\n")
    with pytest.raises(FileNotFoundError, match=r"none\.csv does not exist"):
        load_csv(tmp_path / "none.csv")


def test_rows_of_an_image_need_not_follow_each_other(tmp_path):
    rows = "b.jpg,1,2,30,40,dog\na.jpg,1,2,30,40,cat\nb.jpg,5,6,20,30,cat\n"
    found = read(tmp_path, HEADER + rows)
    assert [record.name for record in found.records] == ["b.jpg", "a.jpg"]
    assert found.records[0].classes.tolist() == [1, 0]


def test_a_split_column(tmp_path):
    text = "image,xmin,ymin,xmax,ymax,class,Split\na.jpg,1,2,30,40,cat,train\n"
    text += "b.jpg,1,2,30,40,dog,valid\n"
    for split, names in (("train", ["a.jpg"]), ("val", ["b.jpg"]), (None, ["a.jpg", "b.jpg"])):
        found = read(tmp_path, text, split=split)
        assert [record.name for record in found.records] == names
        assert found.class_names == ["cat", "dog"]  # of all splits
    with pytest.raises(ValueError, match=r"split 'test'; its splits: \['train', 'val'\]"):
        read(tmp_path, text, split="test")


def test_crowds(tmp_path):
    text = HEADER.replace("class", "class,difficult") + "a.jpg,1,2,30,40,cat,1\n"
    assert read(tmp_path, text).records[0].ignored.tolist() == [1]


def test_a_box_of_one_pixel_is_no_fraction(tmp_path):
    found = read(tmp_path, HEADER + "a.jpg,0,0,1,1,cat\n")
    assert found.records[0].boxes.tolist() == [[0, 0, 1, 1]]


def test_unknown_classes(tmp_path):
    text = HEADER + "a.jpg,1,2,30,40,cat\n"
    with pytest.raises(ValueError, match=r"a\.jpg.*unknown class 'cat'.*\['dog'\]"):
        read(tmp_path, text, class_names=["dog"])
