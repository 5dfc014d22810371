"""evaluate_coco agrees with what is known of the metrics, and with pycocotools run on files."""

import contextlib
import io
import json
import warnings

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
from pycocotools.coco import COCO

from keras_gflv2.evaluation import coco_results, evaluate_coco
from keras_gflv2.evaluation.coco import METRIC_NAMES


def test_perfect_detector_scores_one():
    metrics = evaluate(FakeModel(zip(BOXES, CLASSES, SCORES)), [make_batch(BOXES, CLASSES)])
    assert set(METRIC_NAMES) < set(metrics)
    for name in ("AP", "AP50", "AP75", "AR100"):
        assert metrics[name] == pytest.approx(1.0)
    assert metrics["per_class"] == pytest.approx({"0": 1.0, "1": 1.0})
    assert all(type(metrics[name]) is float for name in METRIC_NAMES)


def test_first_annotation_counts():
    # pycocotools takes annotation id 0 for "unmatched": one object alone shows it.
    boxes, classes = [[[10, 10, 60, 60]]], [[0]]
    metrics = evaluate(FakeModel([(boxes[0], [0], [0.5])]), [make_batch(boxes, classes)])
    assert metrics["AP"] == pytest.approx(1.0)


def test_iou_of_070_is_a_hit_at_050_to_070_only():
    # A 100-wide box, its right side short by 28 pixels: IoU 0.72, over five of ten thresholds.
    model = FakeModel([([[0, 0, 72, 50]], [0], [0.9])], num_classes=1)
    metrics = evaluate(model, [make_batch([[[0, 0, 100, 50]]], [[0]])])
    assert metrics["AP50"] == pytest.approx(1.0)
    assert metrics["AP75"] == 0.0
    assert metrics["AP"] == pytest.approx(0.5)


def test_wrong_class_is_a_miss():
    model = FakeModel([([[0, 0, 100, 50]], [1], [0.9])])
    metrics = evaluate(model, [make_batch([[[0, 0, 100, 50]]], [[0]])])
    assert metrics["AP"] == 0.0
    assert metrics["per_class"] == {"0": 0.0, "1": -1.0}  # nothing of class 1 to find


def test_per_class_AP50_is_above_per_class_AP_for_a_loose_box():
    model = FakeModel([([[0, 0, 72, 50]], [0], [0.9])], num_classes=1)
    metrics = evaluate(model, [make_batch([[[0, 0, 100, 50]]], [[0]])])
    assert metrics["per_class_AP50"]["0"] == pytest.approx(1.0)
    assert metrics["per_class"]["0"] == pytest.approx(0.5)


def test_boxes_are_mapped_back_through_the_resize():
    # 100 x 400 pixels were resized to 50 x 100 inside a canvas of 64 x 128.
    batch = make_batch(
        [[[10, 10, 60, 40]]],
        [[0]],
        size=(64, 128),
        image_sizes=np.array([[50, 100]]),
        original_sizes=np.array([[100, 400]]),
        image_ids=np.array([7]),
    )
    results = coco_results(FakeModel([([[10, 10, 60, 40]], [0], [0.9])]), [batch], verbose=0)
    assert results == [
        {"image_id": 7, "category_id": 1, "bbox": [40, 20, 200, 60], "score": pytest.approx(0.9)}
    ]
    # Their area is 12000 in the original, so large (> 96^2), although 1500 in the batch.
    metrics = evaluate(FakeModel([([[10, 10, 60, 40]], [0], [0.9])]), [batch])
    assert (metrics["APl"], metrics["APm"], metrics["APs"]) == (pytest.approx(1.0), -1, -1)


def test_areas_given_decide_the_size_class():
    # The mask of a crooked object is smaller than its box: COCO goes by the mask.
    batch = make_batch([[[0, 0, 100, 100]]], [[0]], areas=[[500.0]])
    metrics = evaluate(FakeModel([([[0, 0, 100, 100]], [0], [0.9])]), [batch])
    assert (metrics["APs"], metrics["APl"]) == (pytest.approx(1.0), -1)


def test_ignored_objects_are_neither_hit_nor_miss():
    boxes = [[[10, 10, 60, 60], [100, 20, 180, 120]]]
    real, crowd = boxes[0]
    batch = make_batch(boxes, [[0, 0]], ignored=[[0, 1]])
    missed = evaluate(FakeModel([([real], [0], [0.5])], 1), [batch])
    assert missed["AP"] == pytest.approx(1.0)
    # Two detections in the crowd, surer than the real one, would halve precision as errors.
    inside = [crowd, [110, 30, 150, 100], real]
    found = evaluate(FakeModel([(inside, [0, 0, 0], [0.9, 0.8, 0.5])], 1), [batch])
    assert found["AP"] == pytest.approx(1.0)
    counted = make_batch(boxes, [[0, 0]])
    assert evaluate(FakeModel([([real], [0], [0.5])], 1), [counted])["AP"] < 0.6


def test_no_detections_score_zero():
    metrics = evaluate(FakeModel([]), [make_batch(BOXES, CLASSES)])
    assert metrics["AP"] == 0.0 and metrics["AR100"] == 0.0


def test_no_objects_score_minus_one_as_in_pycocotools():
    batch = make_batch([[], []], [[], []])
    for detections in ([], [([[0, 0, 10, 10]], [0], [0.9])]):
        metrics = evaluate(FakeModel(detections), [batch])
        assert [metrics[name] for name in METRIC_NAMES] == [-1.0] * 12
        assert metrics["per_class"] == {"0": -1.0, "1": -1.0}


def test_empty_dataset_is_an_error():
    with pytest.raises(ValueError, match="empty"):
        evaluate(FakeModel([]), [])


def test_repeated_image_is_an_error():
    batch = make_batch(BOXES, CLASSES, image_ids=np.array([3, 3]))
    with pytest.raises(ValueError, match="3 more than once"):
        evaluate(FakeModel([]), [batch])


def test_unknown_class_is_an_error():
    with pytest.raises(ValueError, match="class 5"):
        evaluate(FakeModel([]), [make_batch(BOXES, [[0, 5], [1]])])


def test_classes_of_model_and_dataset_must_agree():
    dataset = Dataset([make_batch(BOXES, CLASSES)])
    dataset.class_names = ["cat", "dog", "cow"]
    with pytest.raises(ValueError, match="2 classes, the dataset has 3"):
        evaluate(FakeModel([]), dataset)
    dataset.class_names = ["cat", "dog"]
    model = FakeModel([])
    model.class_names = ["dog", "cat"]
    with pytest.raises(ValueError, match="different order"):
        evaluate(model, dataset)
    model.class_names = ["feline", "canine"]
    with pytest.warns(UserWarning, match="by position"):
        assert set(evaluate(model, dataset)["per_class"]) == {"cat", "dog"}


@pytest.mark.parametrize("batch", [{"images": np.zeros((1, 8, 8, 3))}, np.zeros((1, 8, 8, 3))])
def test_batch_without_boxes_is_an_error(batch):
    with pytest.raises(ValueError, match="bounding_boxes"):
        evaluate(FakeModel([]), [batch])


def test_pairs_labels_and_ragged_batches_are_accepted():
    tf = pytest.importorskip("tensorflow")
    truth = {"boxes": tf.ragged.constant(BOXES, ragged_rank=1, dtype="float32")}
    truth["labels"] = tf.ragged.constant(CLASSES)
    pair = (np.zeros((2, 200, 300, 3), "float32"), truth)
    assert evaluate(FakeModel(zip(BOXES, CLASSES, SCORES)), [pair])["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize("model_format", ["xywh", "rel_yxyx", "center_xywh"])
def test_formats_of_model_and_dataset_may_differ(model_format):
    height, width = 200, 300
    detections = [
        (
            keras.ops.convert_to_numpy(
                keras.utils.bounding_boxes.convert_format(
                    np.array(boxes, "float32"), "xyxy", model_format, height=height, width=width
                )
            ),
            classes,
            scores,
        )
        for boxes, classes, scores in zip(BOXES, CLASSES, SCORES)
    ]
    dataset = Dataset([make_batch(BOXES, CLASSES, size=(height, width))])
    dataset.bounding_box_format = "xyxy"
    model = FakeModel(detections, bounding_box_format=model_format)
    assert evaluate(model, dataset)["AP"] == pytest.approx(1.0)


def test_a_short_last_batch_is_all_there():
    batches = [make_batch(BOXES, CLASSES), make_batch(BOXES[:1], CLASSES[:1])]
    detections = list(zip(BOXES, CLASSES, SCORES)) + [(BOXES[0], CLASSES[0], SCORES[0])]
    model = FakeModel(detections)
    assert evaluate(model, batches)["AP"] == pytest.approx(1.0)
    assert model.seen == [2, 1]


# === More detections than COCO counts ===


def test_more_than_100_detections_of_a_class_are_counted_beside_cocos_numbers():
    """250 objects, all found: COCO's recall is 100 of 250."""
    grid = np.stack(np.meshgrid(np.arange(25), np.arange(10)), -1).reshape(-1, 2) * 12.0
    boxes = np.concatenate([grid, grid + 10], axis=1)
    found = (boxes, np.zeros(250), np.linspace(1, 0.5, 250))
    batch = make_batch([boxes], [np.zeros(250)])
    with pytest.warns(UserWarning, match=r"1 of 1 images .* 100 .*up to 250.*AP_all"):
        metrics = evaluate(FakeModel([found], slots=300), [batch])
    assert metrics["AR100"] == pytest.approx(0.4)
    assert metrics["AP"] == pytest.approx(41 / 101)  # the recalls 0, 0.01, ..., 0.4
    assert metrics["AP_all"] == metrics["AR_all"] == pytest.approx(1.0)
    assert metrics["per_class"]["0"] == pytest.approx(metrics["AP"])


def test_100_detections_of_each_class_are_cocos_own_numbers():
    boxes = np.tile([[0.0, 0.0, 50.0, 50.0]], (200, 1))
    found = (boxes, np.arange(200) % 2, np.linspace(1, 0.5, 200))
    batch = make_batch([[[0, 0, 50, 50]]], [[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = evaluate(FakeModel([found], slots=200), [batch])
    assert set(metrics) == {*METRIC_NAMES, "per_class", "per_class_AP50"}


def random_scene(seed, num_images=12, num_classes=3):
    """Random truth with detections near it, far from it and missing."""
    random = np.random.default_rng(seed)
    boxes, classes, ignored, detections = [], [], [], []
    for _ in range(num_images):
        count = int(random.integers(0, 6))
        corners = random.uniform(0, 150, (count, 2))
        sides = random.uniform(8, 140, (count, 2))
        image_boxes = np.concatenate([corners, corners + sides], axis=1)
        image_classes = random.integers(0, num_classes, count)
        near = image_boxes + random.normal(0, 4, (count, 4))
        far = np.tile([[0.0, 0.0, 30.0, 30.0]], (2, 1)) + random.uniform(0, 100, (2, 1))
        found = np.concatenate([near[: max(count - 1, 0)], far])
        labels = np.concatenate([image_classes[: max(count - 1, 0)], [0, 1]])
        boxes.append(image_boxes.astype("float32"))
        classes.append(image_classes)
        ignored.append((random.random(count) < 0.2).astype("float32"))
        detections.append((found.astype("float32"), labels, random.permutation(len(found)) / 99))
    return boxes, classes, ignored, detections


def test_equals_pycocotools_run_on_files(tmp_path):
    """The same scene through JSON files, loadRes and COCOeval.stats, written independently here."""
    from pycocotools.cocoeval import COCOeval

    boxes, classes, ignored, detections = random_scene(seed=0)
    image_ids = np.arange(12) * 10 + 139
    category_ids = [1, 18, 90]
    annotations = []
    for image_id, rows, labels, flags in zip(image_ids, boxes, classes, ignored):
        for (x1, y1, x2, y2), label, flag in zip(rows.tolist(), labels, flags):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": int(image_id),
                    "category_id": category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(flag),
                }
            )
    truth_file = tmp_path / "truth.json"
    truth_file.write_text(
        json.dumps(
            {
                "images": [{"id": int(i), "height": 300, "width": 300} for i in image_ids],
                "categories": [{"id": i, "name": str(i)} for i in category_ids],
                "annotations": annotations,
            }
        )
    )

    dataset = Dataset(
        make_batch(
            boxes[start : start + 5],
            classes[start : start + 5],
            size=(300, 300),
            ignored=ignored[start : start + 5],
            image_ids=image_ids[start : start + 5],
        )
        for start in (0, 5, 10)
    )
    dataset.category_ids = category_ids
    results = coco_results(FakeModel(detections, num_classes=3), dataset, verbose=0)
    results_file = tmp_path / "results.json"
    results_file.write_text(json.dumps(results))

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(truth_file)
        evaluation = COCOeval(truth, truth.loadRes(str(results_file)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    metrics = evaluate(FakeModel(detections, num_classes=3), dataset)
    assert 0.2 < metrics["AP"] < 0.9  # a scene which can tell right from wrong
    np.testing.assert_allclose(
        [metrics[name] for name in METRIC_NAMES], evaluation.stats, rtol=0, atol=1e-6
    )
    assert np.mean(list(metrics["per_class"].values())) == pytest.approx(metrics["AP"])


def test_nothing_is_printed_without_verbose(capsys):
    evaluate(FakeModel(zip(BOXES, CLASSES, SCORES)), [make_batch(BOXES, CLASSES)])
    assert capsys.readouterr().out == ""
    evaluate_coco(FakeModel(zip(BOXES, CLASSES, SCORES)), [make_batch(BOXES, CLASSES)])
    assert "1/1" in capsys.readouterr().out
