"""COCO files: ids, crowds, images without annotations, and errors that name file and key."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_gflv2 import images
from keras_gflv2.data import load_coco
from keras_gflv2.images import read_image


def annotation(**changes):
    entry = {"id": 7, "image_id": 42, "category_id": 90, "bbox": [2, 3, 10, 20], "area": 111.0}
    return {**entry, **changes}


def test_ids_and_objects(coco_tree):
    path, folder = coco_tree(
        {42: (40, 60), 17: (40, 60)},
        [annotation(), annotation(id=8, category_id=3, iscrowd=1, area=5.5)],
    )
    ds = load_coco(path, folder, image_size=(40, 60), batch_size=2)
    assert ds.class_names == ["car", "tree"] and ds.category_ids == [3, 90]
    assert ds.image_ids == [42, 17]
    assert ds.report["images_without_boxes"] == 1  # Kept, not dropped.
    (batch,) = list(ds)
    np.testing.assert_array_equal(batch["image_ids"], [42, 17])
    boxes = batch["bounding_boxes"]
    np.testing.assert_allclose(boxes["boxes"][0, :2], [[2, 3, 12, 23]] * 2)
    np.testing.assert_array_equal(boxes["classes"][0, :3], [1, 0, -1])
    np.testing.assert_array_equal(boxes["ignored"][0, :3], [0, 1, 0])
    np.testing.assert_allclose(boxes["areas"][0, :2], [111, 5.5])
    np.testing.assert_array_equal(boxes["classes"][1], [-1] * 8)


def test_class_names_set_the_order(coco_tree):
    path, folder = coco_tree({42: (40, 60)}, [annotation()])
    ds = load_coco(path, folder, class_names=["tree", "car"])
    assert ds.category_ids == [90, 3]
    assert next(iter(ds))["bounding_boxes"]["classes"][0, 0] == 0
    with pytest.raises(ValueError, match=r"'boat'.*does not define"):
        load_coco(path, folder, class_names=["boat"])


def test_large_ids_are_kept(coco_tree):
    path, folder = coco_tree({2**40: (40, 60)}, [])
    assert next(iter(load_coco(path, folder)))["image_ids"].numpy() == [2**40]


def test_more_boxes_than_any_fixed_number(coco_tree):
    path, folder = coco_tree({42: (40, 60)}, [annotation(id=i) for i in range(41)])
    classes = next(iter(load_coco(path, folder)))["bounding_boxes"]["classes"]
    assert classes.shape == (1, 48) and int((classes.numpy() >= 0).sum()) == 41


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"category_id": 5}, r"annotation 7 .*category id 5.*\{3: 'car', 90: 'tree'\}"),
        ({"image_id": 1}, r"annotation 7 .*image id 1"),
        ({"bbox": [1, 2, 3]}, r"annotation 7 .*\[1, 2, 3\]"),
        ({"bbox": "box"}, r"annotation 7 .*'box'"),
        ({"area": "big"}, r"annotation 7 .*'big'"),
    ],
)
def test_bad_annotations(coco_tree, changes, message):
    path, folder = coco_tree({42: (40, 60)}, [annotation(**changes)])
    with pytest.raises(ValueError, match=r"annotations\.json: " + message):
        load_coco(path, folder)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_missing_lists(coco_tree, key):
    path, folder = coco_tree({42: (40, 60)}, [annotation()])
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"annotations\.json has no list '{key}'"):
        load_coco(path, folder)


@pytest.mark.parametrize("key", ["bbox", "image_id", "category_id"])
def test_missing_keys(coco_tree, key):
    entry = annotation()
    del entry[key]
    path, folder = coco_tree({42: (40, 60)}, [entry])
    with pytest.raises(ValueError, match=rf"annotation 7 has no key '{key}'"):
        load_coco(path, folder)


def test_missing_files(coco_tree):
    path, folder = coco_tree({42: (40, 60)}, [], write_images=False)
    with pytest.raises(FileNotFoundError, match=r"42\.png.*annotations\.json"):
        load_coco(path, folder)
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        load_coco(folder / "absent.json", folder)
    path.write_text("{")
    with pytest.raises(ValueError, match="not a valid JSON"):
        load_coco(path, folder)


def test_empty_dataset(coco_tree):
    path, folder = coco_tree({}, [])
    with pytest.raises(ValueError, match="empty"):
        load_coco(path, folder)


def test_box_with_null_is_dropped_and_counted(coco_tree):
    path, folder = coco_tree({42: (40, 60)}, [annotation(bbox=[None, 1, 2, 3])])
    with pytest.warns(UserWarning, match="not finite"):
        ds = load_coco(path, folder)
    assert ds.report["non_finite_boxes"] == 1


def test_numbers_as_strings(coco_tree):
    entry = {"image_id": "42", "category_id": "90", "bbox": ["2", "3", "10", "20"], "area": "111"}
    flags = [
        {"iscrowd": "0"},
        {"ignore": "False"},
        {"iscrowd": ""},
        {"iscrowd": "1"},
        {"ignore": 1},
    ]
    entries = [{"id": str(i), **entry, **flag} for i, flag in enumerate(flags)]
    path, folder = coco_tree({42: (40, 60)}, entries)
    content = path.read_text().replace('"height": 40, "width": 60', '"height": "40", "width": "60"')
    path.write_text(content)
    ds = load_coco(path, folder, image_size=(40, 60))
    objects = next(iter(ds.as_numpy_iterator()))["bounding_boxes"]
    np.testing.assert_array_equal(objects["ignored"][0, :5], [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(objects["boxes"][0, :5], [[2, 3, 12, 23]] * 5)
    np.testing.assert_array_equal(objects["areas"][0, :5], [111] * 5)
    assert ds.report["size_mismatches"] == 0
    # Copies that differ in `ignored` are no duplicates.
    assert ds.report["duplicate_boxes"] == 3


@pytest.mark.parametrize(
    "key, value",
    [
        ("iscrowd", "abc"),
        ("iscrowd", float("nan")),
        ("ignore", [0]),
        ("area", float("nan")),
        ("area", {}),
        ("bbox", [1, 2, "abc", 4]),
        ("bbox", "1234"),
        ("bbox", [[1, 2, 3, 4]]),
        ("bbox", None),
        ("category_id", None),
        ("category_id", [90]),
    ],
)
def test_values_that_are_neither(coco_tree, key, value):
    path, folder = coco_tree({42: (40, 60)}, [annotation(**{key: value})])
    with pytest.raises(
        ValueError, match=rf"annotations\.json: annotation 7 \(image 42, 42\.png\).*'{key}'"
    ):
        load_coco(path, folder)


@pytest.mark.parametrize(
    "ids, of_annotation, carried",
    [
        (["ckl9x", "abc7"], "abc7", [0, 1]),
        ([397133.0, 37777.0], 37777, [0, 1]),
        (["12", "7"], 7, [0, 1]),
        ([12, 7], "7", [12, 7]),
        ([12, "cat"], "cat", [0, 1]),
        ([12, 2**63], 2**63, [0, 1]),
    ],
)
def test_ids_of_every_kind_are_kept(coco_tree, ids, of_annotation, carried):
    """Batches carry ids where all are ints of 64 bits, else the index into `image_ids`."""
    path, folder = coco_tree(
        {i: (40, 60) for i in ids},
        [annotation(image_id=of_annotation, category_id="90")],
        [{"id": 90.0, "name": "tree"}, {"id": "3", "name": "car"}],
    )
    ds = load_coco(path, folder, batch_size=2)
    batch = next(iter(ds.as_numpy_iterator()))
    assert ds.image_ids == ids and [type(i) for i in ds.image_ids] == [type(i) for i in ids]
    assert ds.category_ids == ["3", 90.0] and ds.class_names == ["car", "tree"]
    np.testing.assert_array_equal(batch["image_ids"], carried)
    np.testing.assert_array_equal(batch["bounding_boxes"]["classes"][:, 0], [-1, 1])


def test_byte_order_mark(coco_tree):
    path, folder = coco_tree({42: (40, 60)}, [annotation()])
    path.write_bytes(path.read_text().encode("utf-8-sig"))
    assert load_coco(path, folder).num_images == 1


@pytest.mark.parametrize(
    "categories, message",
    [
        ([{"id": 1}], "a category has no key 'name'"),
        ([{"id": 1, "name": None}], "'name' must be a string"),
        ([{"id": 1, "name": "a"}, {"id": 2, "name": "a"}], "name 'a' occurs twice"),
        ([{"id": 1, "name": "a"}, {"id": 1, "name": "b"}], "category id 1 occurs twice"),
        ([{"id": 1, "name": "a"}, {"id": "1", "name": "b"}], "1 and '1' are the same number"),
        ([], "'categories' defines no category"),
    ],
)
def test_bad_categories(coco_tree, categories, message):
    path, folder = coco_tree({42: (40, 60)}, [], categories)
    with pytest.raises(ValueError, match=rf"annotations\.json.*{message}"):
        load_coco(path, folder)


@pytest.mark.parametrize("name", ["cells", "car"])  # Some projects are called like their class.
def test_root_category_of_roboflow(coco_tree, name):
    categories = [
        {"id": 0, "name": name, "supercategory": "none"},
        {"id": 1, "name": "car", "supercategory": name},
        {"id": 2, "name": "tree", "supercategory": name},
    ]
    path, folder = coco_tree({42: (40, 60)}, [annotation(category_id=2)], categories)
    with pytest.warns(UserWarning, match=rf"Roboflow.*\({name}\)"):
        ds = load_coco(path, folder)
    assert ds.class_names == ["car", "tree"] and ds.category_ids == [1, 2]
    assert ds.report["root_categories"] == 1
    assert next(iter(ds))["bounding_boxes"]["classes"][0, 0] == 1
    if name == "cells":
        # With objects, or asked for, it is a class as any other.
        assert load_coco(path, folder, class_names=["cells", "tree"]).category_ids == [0, 2]
        path, folder = coco_tree({42: (40, 60)}, [annotation(category_id=0)], categories)
        assert load_coco(path, folder).category_ids == [0, 1, 2]


def rename_images(path, names):
    """Writes other file names into an annotation file."""
    content = json.loads(path.read_text())
    for entry, name in zip(content["images"], names):
        entry["file_name"] = name
    path.write_text(json.dumps(content))


def test_file_names_of_other_systems(coco_tree):
    path, folder = coco_tree({42: (40, 60), 17: (40, 60)}, [])
    rename_images(path, ["C:\\photos\\42.png", "17.PNG"])
    with pytest.warns(UserWarning, match="found 2 files under other names"):
        ds = load_coco(path, folder)
    assert ds.report["files"]["repaired_names"] == ["C:\\photos\\42.png", "17.PNG"]
    next(iter(ds))


def test_file_names_outside_of_the_folder(coco_tree):
    path, folder = coco_tree({42: (40, 60)}, [])
    (folder / "42.png").rename(folder.parent / "42.png")
    for name in ("../42.png", str(folder.parent / "42.png")):
        rename_images(path, [name])
        with pytest.raises(ValueError, match=r"annotations\.json: image 42: the name .*42\.png'"):
            load_coco(path, folder)
        assert load_coco(path, folder, allow_outside=True).num_images == 1


def test_one_file_under_two_ids(coco_tree):
    path, folder = coco_tree({42: (40, 60), 17: (40, 60)}, [annotation(), annotation(image_id=17)])
    rename_images(path, ["42.png", "42.png"])
    with pytest.warns(UserWarning, match=r"several image ids.*\(42\.png\)"):
        ds = load_coco(path, folder)
    assert ds.report["repeated_files"] == 2 and ds.image_ids == [42, 17]


@pytest.mark.parametrize(
    "box",
    [[0.21, 0.12, 0.43, 0.5], [0.5, 0.5, 0.9, 0.9], [0, 0, 1, 1], ["0.1", "0.1", "0.2", "1"]],
)
def test_boxes_that_are_fractions(coco_tree, box):
    boxes = [annotation(bbox=box), annotation(bbox=[0.1, 0.2, 0.3, 0.4])]
    path, folder = coco_tree({42: (40, 60)}, boxes)
    with pytest.raises(ValueError, match=r"annotations\.json.*fractions of the image"):
        load_coco(path, folder)
    # Among others, boxes of a pixel are what they are.
    path, folder = coco_tree({42: (40, 60)}, [annotation(bbox=[0, 0, 1, 1]), annotation()])
    assert load_coco(path, folder).report["boxes"] == 2


def test_corners_in_the_place_of_sizes(coco_tree):
    corners = [[30, 20, 50, 35], [40, 5, 59, 30], [5, 5, 20, 20]]
    path, folder = coco_tree({42: (40, 60)}, [annotation(bbox=box) for box in corners])
    with pytest.warns(UserWarning, match=r"read 2 boxes as \[x, y, width, height\]"):
        ds = load_coco(path, folder)
    assert ds.report["corner_boxes"] == 2
    # One box that reaches out among others that do not is clipped as ever.
    path, folder = coco_tree(
        {42: (40, 60)}, [annotation(bbox=[30, 20, 50, 35]), annotation(), annotation()]
    )
    assert load_coco(path, folder).report["corner_boxes"] == 0


@pytest.mark.parametrize("annotations", [[], [annotation(iscrowd=1)]])
def test_training_data_without_objects(coco_tree, annotations):
    path, folder = coco_tree({42: (40, 60)}, annotations)
    with pytest.warns(UserWarning, match="no image of the training data has an object"):
        load_coco(path, folder, train=True, batch_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_coco(path, folder)


def test_pictures_that_are_too_large(coco_tree, monkeypatch):
    path, folder = coco_tree({42: (40, 60)}, [])
    monkeypatch.setattr(images, "MAX_PIXELS", 2399)
    with pytest.raises(ValueError, match=r"42\.png has 60 x 40 pixels, more than the 2399"):
        load_coco(path, folder)
    monkeypatch.setattr(images, "MAX_PIXELS", 2400)
    assert load_coco(path, folder).num_images == 1


UPRIGHT = {  # TIFF 6.0, Orientation: what undoes each.
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}


@pytest.mark.parametrize("stated", ["upright", "stored", "none", "other"])
@pytest.mark.parametrize("size", [(20, 40), (24, 24)])
def test_exif_orientations(coco_tree, noise, stated, size):
    """Pictures are upright, as `read_image` and so `detect` have them, unless the size forbids it.

    What the loader guessed, or reads in another way than `detect`, is warned of.
    """
    path, folder = coco_tree({orientation: size for orientation in UPRIGHT}, [])
    content = json.loads(path.read_text())
    guessed, stored = [], []
    for entry in content["images"]:
        orientation = entry["id"]
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = noise(*size, seed=orientation)
        Image.fromarray(picture).save(folder / entry["file_name"], exif=exif)
        upright = UPRIGHT[orientation](picture)
        sizes = {"upright": upright.shape[:2], "stored": size, "none": (None, None)}
        entry["height"], entry["width"] = sizes.get(stated, (7, 9))
        tells = upright.shape != picture.shape
        if tells and stated == "stored":
            stored.append(entry["file_name"])
        elif not tells or stated != "upright":
            guessed.append(entry["file_name"])
    path.write_text(json.dumps(content))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ds = load_coco(path, folder, image_size=(min(size), max(size)), batch_size=1)
    text = " ".join(str(warning.message) for warning in caught)
    files = ds.report["files"]
    assert files.get("exif_guessed", []) == guessed and files.get("exif_stored", []) == stored
    assert ("upright as their EXIF orientation says, as `detect` does" in text) == bool(guessed)
    assert ("as they are stored" in text) == bool(stored)
    assert ds.report["exif_upright"] == len(UPRIGHT) - len(guessed) - len(stored)
    for batch, name in zip(ds, ds.file_names, strict=True):
        shown = read_image(folder / name, exif=name not in stored)
        height, width = shown.shape[:2]
        np.testing.assert_array_equal(batch["images"][0, :height, :width], shown)
        picture = noise(*size, seed=int(batch["image_ids"][0]))
        expected = picture if name in stored else UPRIGHT[int(batch["image_ids"][0])](picture)
        np.testing.assert_array_equal(shown, expected)
