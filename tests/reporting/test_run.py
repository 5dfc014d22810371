"""The data of the report against the detector that it is about."""

import base64
import io
import json

import numpy as np
import pytest
from evaluation.fake_model import BOXES, CLASSES, SCORES, FakeModel, make_batch
from PIL import Image

from keras_gflv2.evaluation import evaluate_coco
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.postprocessing import TestTimeAugmentation
from keras_gflv2.reporting import run_of


def shown_detections(run):
    return [d for image in run["gallery"]["images"] for d in image["detections"]]


def test_the_metrics_are_those_of_coco(run, evaluated):
    expected = evaluate_coco(*evaluated[:2], verbose=0)
    assert run["metrics"]["AP"] == pytest.approx(expected["AP"], abs=1e-4)
    for row in run["classes"]:
        value = -1 if row["AP50"] is None else row["AP50"]
        assert value == pytest.approx(expected["per_class_AP50"][row["class"]], abs=1e-4)
    assert sum(row["objects"] for row in run["classes"]) == run["num_objects"] == 4


def test_what_was_put_wrong_is_shown(run):
    kinds = {item["kind"] for item in run["gallery"]["items"]}
    assert {"classification", "missed"} <= kinds
    assert kinds & {"background", "both", "localization"}
    for item in run["gallery"]["items"]:
        image = run["gallery"]["images"][item["image"]]
        if item["kind"] == "missed":
            assert not image["objects"][item["object"]]["found"]
        else:
            assert image["detections"][item["detection"]]["kind"] == item["kind"]


def test_boxes_are_the_means_of_their_distributions(run):
    for detection in shown_detections(run):
        assert len(detection["sides"]) == 4
        for side, data in enumerate(detection["sides"]):
            p = np.array(data["probabilities"])
            assert p.sum() == pytest.approx(1, abs=0.01)
            mean = p @ (data["start"] + np.arange(len(p)) * data["step"])
            # Boxes are cut at the edges of the image, distributions are not.
            assert np.clip(mean, 0, (128, 96)[side % 2]) == pytest.approx(
                detection["box"][side], abs=0.2
            )


def test_scores_are_class_score_times_quality(run):
    assert shown_detections(run)
    for detection in shown_detections(run):
        product = detection["class_score"] * detection["quality"]
        assert detection["score"] == pytest.approx(product, abs=1e-3)
        assert detection["score"] > run["gallery"]["threshold"]


def test_pictures_are_those_of_the_dataset(run, evaluated):
    pixels = evaluated[1][0]["images"]
    for index, image in enumerate(run["gallery"]["images"]):
        kind, content = image["picture"].split(",")
        assert kind == "data:image/webp;base64"
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
        assert picture.shape == (96, 128, 3)
        # Noise compresses badly: its mean survives.
        assert picture.mean() == pytest.approx(pixels[index].mean(), abs=3)


def test_the_best_threshold_is_that_of_the_largest_f1(run):
    best, curve = run["f1"]["best"][-1], run["f1"]["f1"][-1]
    assert best["f1"] == max(value for value in curve if value is not None)
    assert best["threshold"] in run["confusion"]["thresholds"]
    assert run["confusion"]["thresholds"][run["confusion"]["best"]] == best["threshold"]


def test_of_several_views_there_are_pictures_and_no_distributions(evaluated):
    model, dataset, _ = evaluated
    views = TestTimeAugmentation(model, (1.0,))
    run = run_of("views", views, dataset, detect_dataset(views, dataset, verbose=0))
    assert all(image["picture"] for image in run["gallery"]["images"])
    assert not any("sides" in detection for detection in shown_detections(run))


@pytest.mark.parametrize("objects", [True, False])
def test_a_detector_without_distributions_or_images_without_objects(objects):
    dataset = [make_batch(BOXES if objects else [[], []], CLASSES if objects else [[], []])]
    answers = list(zip(BOXES, CLASSES, SCORES))
    model = FakeModel(answers)
    images = detect_dataset(model, dataset, verbose=0)
    run = run_of("fake", model, dataset, images)
    assert run["metrics"]["AP"] == (1 if objects else None)
    assert "uncertainties" in run["sides"]["missing"]
    json.dumps(run, allow_nan=False)


def test_nothing_found_is_a_report_too():
    model, dataset = FakeModel([]), [make_batch(BOXES, CLASSES)]
    run = run_of("none", model, dataset, detect_dataset(model, dataset, verbose=0))
    assert run["errors"]["counts"]["missed"] == 3
    assert run["errors"]["costs"]["missed"] == 1
    assert [item["kind"] for item in run["gallery"]["items"]] == ["missed"] * 3
