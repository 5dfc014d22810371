import keras
import numpy as np
import pytest
from common import SHARED, golden, nhwc, to_numpy
from losses.gradients import gradient, numerical_gradient

from keras_gflv2.losses import IoULoss, L1Loss, SmoothL1Loss

# Pairs of boxes: the same, half of it, a corner of it, apart.
TRUE = np.float32([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4]])
PREDICTED = np.float32([[0, 0, 4, 4], [0, 0, 4, 2], [2, 2, 6, 6], [8, 8, 9, 9]])
IOUS = np.array([1, 1 / 2, 4 / 28, 1e-6])


def smooth_l1(y_true, y_pred, beta):
    distance = np.abs(y_true - y_pred)
    parabola = distance**2 / (2 * beta)
    return np.where(distance < beta, parabola, distance - beta / 2).sum(-1)


def test_iou_loss_is_the_logarithm_or_the_complement_of_the_iou():
    np.testing.assert_allclose(
        to_numpy(IoULoss().call(TRUE, PREDICTED)), -np.log(IOUS), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        to_numpy(IoULoss("linear").call(TRUE, PREDICTED)), 1 - IOUS, rtol=1e-5, atol=1e-6
    )


def test_iou_loss_moves_boxes_together_and_has_no_slope_where_they_are_apart():
    def formula(boxes):
        corner = np.maximum(boxes[:, :2], TRUE[2:3, :2])
        shared = (np.minimum(boxes[:, 2:], TRUE[2:3, 2:]) - corner).prod(-1)
        area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
        return -np.log(shared / (area + 16 - shared)).sum()

    slopes = gradient(lambda x: keras.ops.sum(IoULoss().call(TRUE, x)), PREDICTED)
    np.testing.assert_allclose(
        slopes[2], numerical_gradient(formula, PREDICTED[2:3])[0], rtol=1e-4, atol=1e-5
    )
    assert np.isfinite(slopes).all() and np.all(slopes[3] == 0)


def test_iou_loss_of_boxes_without_an_extent_or_the_wrong_way_around_is_finite():
    boxes = np.float32([[2, 2, 2, 2], [3, 3, 1, 1], [0, 0, 0, 0], [5e3, 5e3, -5e3, -5e3]])
    for y_true, y_pred in ((TRUE, boxes), (boxes, boxes), (boxes, TRUE)):
        losses = to_numpy(IoULoss().call(y_true, y_pred))
        assert np.isfinite(losses).all() and (losses >= 0).all()
        slopes = gradient(lambda x, y=y_true: keras.ops.sum(IoULoss().call(y, x)), y_pred)
        assert np.isfinite(slopes).all()


@pytest.mark.parametrize("beta", [0.11, 1.0])
def test_smooth_l1_loss_and_its_gradient_are_those_of_the_formula(beta):
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.normal(0, 1, (2, 6, 4)), rng.normal(0, 1, (2, 6, 4))
    y_pred[0] = y_true[0] + rng.uniform(-0.1, 0.1, (6, 4))
    loss = SmoothL1Loss(beta)
    y_true, y_pred = y_true.astype("f4"), y_pred.astype("f4")
    np.testing.assert_allclose(
        to_numpy(loss.call(y_true, y_pred)), smooth_l1(y_true, y_pred, beta), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        gradient(lambda x: keras.ops.sum(loss.call(y_true, x)), y_pred),
        np.clip((y_pred - y_true) / beta, -1, 1),
        rtol=1e-4,
        atol=1e-5,
    )


def test_l1_loss_is_the_sum_of_the_four_distances_and_the_limit_of_smooth_l1():
    y_true, y_pred = np.float32([[0, 1, -2, 5]]), np.float32([[0.5, 0, -2, 8]])
    assert float(L1Loss()(y_true, y_pred)) == pytest.approx(4.5)
    assert float(SmoothL1Loss(1e-6)(y_true, y_pred)) == pytest.approx(4.5, rel=1e-5)
    np.testing.assert_array_equal(
        gradient(lambda x: keras.ops.sum(L1Loss().call(y_true, x)), y_pred)[0, [0, 1, 3]],
        [1, -1, 1],
    )


@pytest.mark.parametrize("loss", [L1Loss(), SmoothL1Loss()])
def test_differences_beyond_all_measure_are_finite(loss):
    far = np.full((1, 4), 1e30, "float32")
    assert float(loss(np.zeros((1, 4), "float32"), far)) == pytest.approx(4e30, rel=1e-5)
    slopes = gradient(lambda x: keras.ops.sum(loss.call(np.zeros((1, 4), "float32"), x)), far)
    np.testing.assert_array_equal(slopes, np.ones((1, 4)))


def test_arguments_without_meaning_are_refused():
    with pytest.raises(ValueError, match=r"`mode` must be one of \('log', 'linear'\)"):
        IoULoss("cubic")
    with pytest.raises(ValueError, match="`beta` must be positive; got 0"):
        SmoothL1Loss(0)


@pytest.mark.skipif(not (SHARED / "baselines").exists(), reason="needs ../shared/baselines")
@pytest.mark.parametrize("detector, loss", [("retina", L1Loss()), ("fovea", SmoothL1Loss(0.11))])
def test_box_losses_equal_the_official_ones(detector, loss):
    data = np.load(SHARED / "baselines" / f"{detector}.npz")
    recorded = golden("assignments.npz")
    for batch in range(3):
        maps = [nhwc(data[f"{batch}_box_{level}"]) for level in range(5)]
        numbers = np.concatenate([m.reshape(2, -1, 4) for m in maps], 1)  # (B, A, 4)
        positive = recorded[f"{detector}__{batch}_labels"] < 3
        targets = recorded[f"{detector}__{batch}_box_targets"]
        losses = to_numpy(loss.call(targets, numbers))[positive]
        expected = float(data[f"{batch}_loss_bbox"])
        assert losses.sum(dtype="float64") / positive.sum() == pytest.approx(expected, rel=1e-5)
