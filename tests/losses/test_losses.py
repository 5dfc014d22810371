import keras
import numpy as np
import pytest
from common import golden, to_numpy
from keras import ops
from losses.gradients import gradient

from keras_gflv2 import boxes as box_ops
from keras_gflv2.losses import DistributionFocalLoss, GIoULoss, QualityFocalLoss
from keras_gflv2.losses.per_location import per_location


def quality_targets(data):
    """Official labels and scores -> one soft target a class; label 5 is background."""
    targets = np.zeros((40, 6), "float32")
    targets[np.arange(40), data["qfl_labels"]] = data["qfl_scores"]
    return targets[:, :5]


@pytest.mark.parametrize("form", ["sigmoid1", "sigmoid0"])
def test_quality_focal_loss_equals_the_official_one(form):
    data = golden("losses.npz")
    loss = QualityFocalLoss(from_logits=form == "sigmoid1", reduction=None)
    targets, predictions = quality_targets(data), data[f"qfl_{form}_pred"]
    values = to_numpy(loss(targets, predictions))
    np.testing.assert_allclose(values, data[f"qfl_{form}_none"], rtol=1e-5, atol=1e-7)
    weight = data["qfl_weight"] / data["qfl_avg_factor"]
    by_prediction = gradient(
        lambda p: ops.sum(loss(targets, p) * ops.convert_to_tensor(weight, "float32")),
        predictions,
    )
    np.testing.assert_allclose(
        by_prediction, data[f"qfl_{form}_weighted_grad"], rtol=1e-4, atol=1e-6
    )


def test_quality_focal_loss_is_finite_at_certain_and_wrong_scores():
    loss = QualityFocalLoss()
    targets = np.float32([[1.0, 0.0]])
    predictions = np.float32([[0.0, 1.0]])
    assert float(loss(targets, predictions)) == pytest.approx(200.0)
    assert np.all(np.isfinite(gradient(lambda p: loss(targets, p), predictions)))


def test_quality_focal_loss_is_zero_only_at_its_target():
    loss = QualityFocalLoss()
    assert float(loss(np.float32([[0.7]]), np.float32([[0.7]]))) == pytest.approx(0.0, abs=1e-7)
    assert float(loss(np.float32([[0.7]]), np.float32([[0.9]]))) > 0.01


def test_distribution_focal_loss_equals_the_official_one():
    data = golden("losses.npz")
    loss = DistributionFocalLoss(reduction=None)
    values = to_numpy(loss(data["dfl_target"], data["dfl_pred"])) * data["dfl_loss_weight"]
    np.testing.assert_allclose(values, data["dfl_none"], rtol=1e-5, atol=1e-6)
    weight = np.float32(data["dfl_weight"] * data["dfl_loss_weight"] / data["dfl_avg_factor"])
    by_prediction = gradient(
        lambda p: ops.sum(loss(data["dfl_target"], p) * ops.convert_to_tensor(weight)),
        data["dfl_pred"],
    )
    np.testing.assert_allclose(by_prediction, data["dfl_weighted_grad"], rtol=1e-4, atol=1e-6)


def test_distribution_focal_loss_of_a_flat_distribution_is_the_log_of_its_bins():
    loss = DistributionFocalLoss()
    assert float(loss(np.float32([3.4]), np.zeros((1, 17), "float32"))) == pytest.approx(
        np.log(17), rel=1e-6
    )


def test_giou_loss_equals_the_official_one():
    data = golden("losses.npz")
    loss = GIoULoss(reduction=None)
    values = to_numpy(loss(data["giou_target"], data["giou_pred"])) * data["giou_loss_weight"]
    np.testing.assert_allclose(values, data["giou_none"], rtol=1e-5, atol=1e-6)
    weight = np.float32(data["giou_weight"] * data["giou_loss_weight"] / data["giou_avg_factor"])
    by_prediction = gradient(
        lambda p: ops.sum(loss(data["giou_target"], p) * ops.convert_to_tensor(weight)),
        data["giou_pred"],
    )
    np.testing.assert_allclose(by_prediction, data["giou_weighted_grad"], rtol=1e-4, atol=1e-5)


def test_box_geometry_equals_the_official_one():
    data = golden("losses.npz")
    pred, target = (ops.convert_to_tensor(data[k]) for k in ("giou_pred", "giou_target"))
    np.testing.assert_allclose(
        to_numpy(box_ops.iou(pred, target)), data["iou_aligned"], rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(
        to_numpy(box_ops.iou(pred[:, None], target[None])),
        data["iou_matrix"],
        rtol=1e-5,
        atol=1e-7,
    )
    np.testing.assert_allclose(
        to_numpy(box_ops.giou(pred, target, 1e-6)), data["giou_aligned"], rtol=1e-5, atol=1e-6
    )
    shared = to_numpy(box_ops.intersection(pred[:, None], target[None]))
    iof = shared / np.maximum(to_numpy(box_ops.area(pred))[:, None], 1e-6)
    np.testing.assert_allclose(iof, data["iof_matrix"], rtol=1e-5, atol=1e-6)
    points, away = (ops.convert_to_tensor(data[k]) for k in ("points", "distances"))
    decoded = box_ops.boxes_from_distances(points, away)
    np.testing.assert_allclose(to_numpy(decoded), data["d2b"], rtol=1e-6)
    clipped = box_ops.clip(decoded, np.float32([18.0]), np.float32([14.0]))
    np.testing.assert_allclose(to_numpy(clipped), data["d2b_clipped_h18_w14"], rtol=1e-6)
    distances = box_ops.distances_from_boxes(points, target)
    np.testing.assert_allclose(to_numpy(distances), data["b2d"], rtol=1e-6, atol=1e-6)


def test_losses_weight_and_reduce_as_keras_losses_do():
    loss = GIoULoss(reduction="sum")
    boxes = np.float32([[0, 0, 2, 2], [0, 0, 4, 4]])
    other = np.float32([[0, 0, 2, 1], [0, 0, 4, 4]])
    assert float(loss(boxes, other, sample_weight=np.float32([3.0, 1.0]))) == pytest.approx(1.5)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(copy(boxes, other)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "loss", ["binary_crossentropy", keras.losses.BinaryCrossentropy(reduction="sum")]
)
def test_losses_of_keras_count_as_sums_over_the_classes(loss):
    """As the losses of the paper do: -log of the probability of what is true, class by class."""
    scores = np.random.default_rng(0).uniform(0.1, 0.9, (2, 5, 3)).astype("float32")
    targets = (scores > 0.5).astype("float32")
    values = to_numpy(per_location(keras.losses.get(loss), targets, scores))
    truth = np.where(targets > 0, scores, 1 - scores)
    np.testing.assert_allclose(values, -np.log(truth).sum(-1), rtol=1e-4)


@pytest.mark.parametrize(
    "loss, expected",
    [
        (keras.losses.MeanAbsoluteError(), 4 * 0.5),
        (keras.losses.Huber(delta=0.1), 4 * 0.1 * (0.5 - 0.05)),
        (lambda y_true, y_pred: keras.ops.absolute(y_true - y_pred), 4 * 0.5),
        (lambda y_true, y_pred: keras.ops.max(keras.ops.absolute(y_true - y_pred), -1), 0.5),
    ],
)
def test_losses_of_boxes_count_as_sums_over_the_coordinates(loss, expected):
    boxes = np.zeros((2, 5, 4), "float32")
    values = to_numpy(per_location(loss, boxes, boxes + 0.5))
    np.testing.assert_allclose(values, np.full((2, 5), expected), rtol=1e-5)


@pytest.mark.parametrize("axis", [None, 0, (1, 2)])
def test_a_loss_that_is_reduced_too_far_is_refused(axis):
    boxes = np.ones((2, 5, 4), "float32")
    with pytest.raises(ValueError, match="`box_loss` must give one value per location"):
        per_location(lambda a, b: keras.ops.mean(a - b, axis), boxes, boxes, "box_loss")
