"""Pearson's correlation of predicted quality and IoU, against numpy and against training's own."""

import numpy as np
import pytest
from common import random_batch, small_detector, to_numpy
from evaluation.fake_model import FakeModel, make_batch
from keras import ops

from keras_gflv2.evaluation import PearsonCorrelation, QualityCorrelation, quality_correlation
from keras_gflv2.evaluation.coco import match_detections
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.targets import Targets


def test_the_metric_is_one_correlation_over_all_batches():
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 0.501, 1000).astype("float32")  # digits that naive sums would lose
    y = (x - 0.5) * 300 + rng.normal(0, 0.1, 1000).astype("float32")
    weights = (rng.uniform(size=1000) > 0.3).astype("float32")
    metric = PearsonCorrelation()
    for rows in np.array_split(np.arange(1000), [10, 11, 600]):
        metric.update_state(x[rows], y[rows], weights[rows])
    expected = np.corrcoef(x[weights > 0].astype("float64"), y[weights > 0])[0, 1]
    np.testing.assert_allclose(to_numpy(metric.result()), expected, atol=1e-4)
    metric.reset_state()
    metric.update_state([0.0, 1.0], [1.0, 0.0])
    np.testing.assert_allclose(to_numpy(metric.result()), -1, atol=1e-6)
    assert type(PearsonCorrelation.from_config(metric.get_config())) is PearsonCorrelation


def test_coco_matches_the_surest_detection_first_and_nothing_to_what_is_ignored():
    truth = [[[0, 0, 100, 100], [200, 0, 300, 100]], [[0, 0, 50, 50]]]
    found = [
        # Both overlap the first object; the surer one takes it though the other fits better.
        ([[0, 0, 100, 80], [0, 0, 100, 99], [201, 0, 300, 100], [0, 100, 50, 150]], [0, 0, 1, 0],
         [0.9, 0.8, 0.7, 0.6]),
        ([[0, 0, 50, 49]], [0], [0.2]),
    ]  # fmt: skip
    batch = make_batch(truth, [[0, 1], [0]], ignored=[[0, 0], [0]])
    images = detect_dataset(FakeModel(found), [batch], verbose=0)
    matches = match_detections(images, ["a", "b"])
    assert matches.boxes.tolist() == [[0, 0, 100, 80], [201, 0, 300, 100], [0, 0, 50, 49]]
    assert matches.true_boxes.tolist() == [*truth[0], *truth[1]]
    assert matches.images.tolist() == [0, 0, 1] and matches.classes.tolist() == [0, 1, 0]
    assert matches.uncertainties is None
    assert len(match_detections(images, ["a", "b"], score_threshold=0.5).scores) == 2
    assert len(match_detections(images, ["a", "b"], iou_threshold=0.995).scores) == 0

    batch = make_batch(truth, [[0, 1], [0]], ignored=[[1, 0], [0]])
    images = detect_dataset(FakeModel(found), [batch], verbose=0)
    assert match_detections(images, ["a", "b"]).classes.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["GFLV2", "FCOS", "GFLV1"])
def test_positives_are_those_that_training_assigns(name):
    model, batch = small_detector(name), random_batch(seed=3)
    got = quality_correlation(model, [batch], verbose=0)

    outputs = model(batch["images"], training=False)
    targets = Targets.from_batch(batch["bounding_boxes"], "xyxy", batch["images"])
    index = to_numpy(model.assigner(targets, model.grid(*batch["images"].shape[1:3])).box_index)
    boxes, _ = model.locate(outputs, *batch["images"].shape[1:3])
    outputs, boxes = to_numpy(outputs), to_numpy(boxes)
    scores, overlaps, alone = [], [], []
    for image, location in zip(*np.nonzero(index >= 0)):
        chosen = index[image, location]
        one, other = boxes[image, location], batch["bounding_boxes"]["boxes"][image, chosen]
        label = batch["bounding_boxes"]["classes"][image, chosen]
        low, high = np.maximum(one, other)[:2], np.minimum(one, other)[2:]
        shared = np.prod(np.maximum(high - low, 0))
        areas = [np.prod(b[2:] - b[:2]) for b in (one, other)]
        overlaps.append(shared / (sum(areas) - shared))
        scores.append(outputs["scores"][image, location, label])
        if name == "FCOS":
            alone.append(1 / (1 + np.exp(-outputs["centerness"][image, location])))
        if name == "GFLV2":
            alone.append(to_numpy(model.quality(outputs["box_distributions"]))[image, location, 0])
    assert got["num_positives"] == len(scores) > 10
    np.testing.assert_allclose(got["score"], np.corrcoef(scores, overlaps)[0, 1], atol=1e-3)
    if alone:
        np.testing.assert_allclose(got["quality"], np.corrcoef(alone, overlaps)[0, 1], atol=1e-3)
    else:
        assert np.isnan(got["quality"])


def test_the_callback_logs_what_the_function_returns(compiled):
    batch = random_batch()
    callback = QualityCorrelation([batch], frequency=2)
    history = compiled.fit(
        batch["images"], batch["bounding_boxes"], epochs=3, batch_size=2, verbose=0,
        callbacks=[callback],
    ).history  # fmt: skip
    logged = history["val_correlation_score"]
    assert np.isnan(logged[0]) and np.isfinite(logged[1:]).all()
    expected = quality_correlation(compiled, [batch], verbose=0)
    np.testing.assert_allclose(logged[-1], expected["score"], atol=1e-4)
    with pytest.raises(ValueError, match="frequency"):
        QualityCorrelation([batch], frequency=0)


def test_without_variance_there_is_no_correlation():
    metric = PearsonCorrelation()
    metric.update_state(ops.ones(3), [0.1, 0.2, 0.3])
    assert np.isnan(to_numpy(metric.result()))
