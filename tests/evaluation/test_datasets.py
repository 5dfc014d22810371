"""What a dataset may be that a detector is evaluated on, and the ids of its images."""

import contextlib
import io
import json

import keras
import numpy as np
import pytest
from evaluation.fake_model import (
    BOXES,
    CLASSES,
    SCORES,
    Dataset,
    FakeModel,
    evaluate,
    make_batch,
)
from PIL import Image
from pycocotools.coco import COCO

from keras_gflv2.data import load_coco
from keras_gflv2.evaluation import coco_results
from keras_gflv2.evaluation.detections import source_image_ids

# === What a dataset may be ===


class Pictures(keras.utils.PyDataset):
    """Two batches; as many of its kind it does not complain about an index beyond."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows = slice(index, index + 1)
        return make_batch(BOXES[rows] or BOXES[:1], CLASSES[rows] or CLASSES[:1])


def pairs_of_ragged_boxes():
    tf = pytest.importorskip("tensorflow")
    images = np.zeros((2, 200, 300, 3), "float32")
    truth = {"boxes": tf.ragged.constant(BOXES, ragged_rank=1, dtype="float32")}
    return tf.data.Dataset.from_tensors((images, truth | {"labels": tf.ragged.constant(CLASSES)}))


def data_loader():
    torch = pytest.importorskip("torch")
    batch = make_batch(BOXES, CLASSES)
    examples = [
        {"images": batch["images"][k], "bounding_boxes": {n: v[k] for n, v in truth.items()}}
        for truth in [batch["bounding_boxes"]]
        for k in range(2)
    ]
    return torch.utils.data.DataLoader(examples, batch_size=2)


@pytest.mark.parametrize(
    "dataset",
    [
        lambda: [make_batch(BOXES, CLASSES)],
        lambda: (make_batch(BOXES[k : k + 1], CLASSES[k : k + 1]) for k in range(2)),
        lambda: make_batch(BOXES, CLASSES),
        lambda: (np.zeros((2, 200, 300, 3)), make_batch(BOXES, CLASSES)["bounding_boxes"]),
        lambda: Pictures(),
        pairs_of_ragged_boxes,
        data_loader,
    ],
    ids=["list", "generator", "dictionary", "pair", "PyDataset", "tf.data", "DataLoader"],
)
def test_every_kind_of_dataset_that_fit_takes(dataset):
    assert evaluate(FakeModel(zip(BOXES, CLASSES, SCORES)), dataset())["AP"] == pytest.approx(1.0)


def test_images_without_objects_may_have_no_boxes_at_all():
    batch = make_batch(BOXES, CLASSES)
    empty = {"boxes": np.zeros((2, 0, 4), "float32"), "classes": np.zeros((2, 0), "int32")}
    empty = {"images": batch["images"], "bounding_boxes": empty}
    detections = [([], [], [])] * 2 + list(zip(BOXES, CLASSES, SCORES))
    assert evaluate(FakeModel(detections), [empty, batch])["AP"] == pytest.approx(1.0)


def test_a_dataset_that_never_ends_is_an_error():
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensors(make_batch(BOXES, CLASSES)).repeat()
    with pytest.raises(ValueError, match="repeat"):
        evaluate(FakeModel([]), dataset)


@pytest.mark.parametrize("label", [-2, 2, 0.5, np.nan])
def test_classes_that_are_none_are_an_error_that_names_the_image(label):
    batches = [make_batch(BOXES, CLASSES, image_ids=np.array(ids)) for ids in ([3, 4], [5, 6])]
    classes = batches[1]["bounding_boxes"]["classes"].astype("float32")
    classes[1, 0] = label
    batches[1]["bounding_boxes"]["classes"] = classes
    with pytest.raises(ValueError, match=rf"Image 3 .*id 6.*class {label:g}"):
        evaluate(FakeModel([]), batches)


@pytest.mark.parametrize("box", [[0, 0, np.nan, 9], [0, 0, np.inf, 9], [9, 0, 2, 9]])
def test_boxes_that_are_none_are_an_error_that_names_the_image(box):
    batch = make_batch([*BOXES, [[0, 0, 9, 9], box]], [*CLASSES, [0, 0]])
    with pytest.raises(ValueError, match=r"Image 2 .*1 boxes"):
        evaluate(FakeModel([]), [batch])
    batch["bounding_boxes"]["classes"][2, 1] = -1  # the values of padding mean nothing
    evaluate(FakeModel([]), [batch])


# === Image ids ===


@pytest.mark.parametrize(
    ("ids", "carried", "expected"),
    [
        ([7, 5], [7, 5], [7, 5]),
        ([7, 5], [5, 7], [5, 7]),  # in another order
        ([1, 0], [0, 1], [0, 1]),
        (["a", "b"], [0, 1], ["a", "b"]),
        (["a", "b"], [1, 0], ["b", "a"]),
        (["a", "b"], ["b", "a"], ["b", "a"]),
        ([1.0, 0.0], [0, 1], [1.0, 0.0]),  # equal numbers, but positions
        ([2.5, 3.5], [1, 0], [3.5, 2.5]),
        (["a", 0, 5], [0, 0, 5], ["a", 0, 5]),  # ids where they are numbers, positions else
        (["a", 0, 5], [0, 1, 2], ["a", 0, 5]),
        (["a", 500], [500, 0], [500, "a"]),
        (["a", "b"], [None, None], ["a", "b"]),
        ([2**70, 1], [0, 1], [2**70, 1]),
        (None, [4, 2], [4, 2]),
        (None, [None, None], [0, 1]),
    ],
)
def test_image_ids_are_those_of_the_source(ids, carried, expected):
    dataset = Dataset()
    dataset.image_ids = ids
    found = source_image_ids(dataset, carried)
    assert list(map(repr, found)) == list(map(repr, expected))


@pytest.mark.parametrize("ids", [["ckl9x", "7"], [397133.0, 37777.5], [12, 3], ["x", 3.5]])
def test_results_have_the_ids_of_the_coco_file(ids, tmp_path):
    pytest.importorskip("tensorflow")
    for name in ("0.png", "1.png"):
        Image.fromarray(np.zeros((48, 64, 3), "uint8")).save(tmp_path / name)
    boxes = [[5, 6, 25, 36], [10, 10, 40, 40]]
    content = {
        "images": [{"id": i, "file_name": f"{k}.png"} for k, i in enumerate(ids)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 1, "bbox": [x, y, right - x, bottom - y]}
            for k, (i, (x, y, right, bottom)) in enumerate(zip(ids, boxes))
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    dataset = load_coco(tmp_path / "a.json", tmp_path, image_size=(48, 64), batch_size=1)
    model = FakeModel([([box], [0], [0.9]) for box in boxes], num_classes=1)
    results = coco_results(model, dataset, verbose=0)
    assert [(type(r["image_id"]), r["image_id"]) for r in results] == [(type(i), i) for i in ids]
    with contextlib.redirect_stdout(io.StringIO()):
        COCO(tmp_path / "a.json").loadRes(results)


def test_category_ids_are_those_of_the_source():
    dataset = Dataset([make_batch(BOXES, CLASSES)])
    dataset.category_ids = ["c1", 7]
    results = coco_results(FakeModel(zip(BOXES, CLASSES, SCORES)), dataset, verbose=0)
    assert {result["category_id"] for result in results} == {"c1", 7}
