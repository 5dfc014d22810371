"""COCO files: ids, crowds, images without annotations, and errors that name file and key."""

import json

import numpy as np
import pytest

from keras_gflv2.data import load_coco


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
