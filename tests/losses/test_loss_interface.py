"""What holds for every loss of the package, alone and in a criterion."""

import keras
import numpy as np
import pytest
from common import to_numpy
from losses.gradients import gradient

from keras_gflv2.losses import (
    DistributionFocalLoss,
    FocalLoss,
    GIoULoss,
    IoULoss,
    L1Loss,
    QualityFocalLoss,
    SmoothL1Loss,
)
from keras_gflv2.losses.per_location import per_location

LOSSES = [
    DistributionFocalLoss(reduction="sum"),
    FocalLoss(0.4, 1.5, from_logits=False, name="classes"),
    FocalLoss(),
    GIoULoss(1e-5),
    IoULoss("linear", 1e-5, dtype="float32"),
    IoULoss(),
    L1Loss(reduction=None),
    QualityFocalLoss(from_logits=True),
    SmoothL1Loss(0.5),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


def arguments_of(loss):
    """Targets and predictions (B, A, ...) that the loss has a meaning for."""
    rng = np.random.default_rng(0)
    if isinstance(loss, DistributionFocalLoss):
        return rng.uniform(0, 7, (2, 5)).astype("f4"), rng.normal(0, 1, (2, 5, 9)).astype("f4")
    if isinstance(loss, FocalLoss | QualityFocalLoss):
        y_true = (rng.uniform(size=(2, 5, 3)) < 0.3).astype("f4")
        return y_true, rng.uniform(0.1, 0.9, (2, 5, 3)).astype("f4")
    corner = rng.uniform(0, 2, (2, 2, 5, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 3, (2, 2, 5, 2))], -1)
    return boxes.astype("f4")


@every_loss
def test_a_loss_survives_serialization(loss):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is type(loss) and copy.get_config() == loss.get_config()
    y_true, y_pred = arguments_of(loss)
    np.testing.assert_array_equal(to_numpy(copy(y_true, y_pred)), to_numpy(loss(y_true, y_pred)))


@every_loss
def test_a_loss_weighs_and_reduces_as_losses_of_keras_do(loss):
    y_true, y_pred = arguments_of(loss)
    values = to_numpy(loss.call(y_true, y_pred))
    assert values.shape == (2, 5)
    np.testing.assert_array_equal(to_numpy(per_location(loss, y_true, y_pred)), values)
    weights = np.random.default_rng(1).uniform(size=(2, 5)).astype("f4")
    reduced = {"sum": np.sum, "sum_over_batch_size": np.mean, "none": np.asarray}
    expected = reduced[loss.reduction or "none"](values * weights)
    found = to_numpy(loss(y_true, y_pred, sample_weight=weights))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "loss", [FocalLoss(), IoULoss(), L1Loss(), SmoothL1Loss()], ids=lambda loss: loss.name
)
def test_half_precision_predictions_give_the_loss_of_their_values(loss, dtype):
    y_true, y_pred = arguments_of(loss)
    scale = 300.0 if isinstance(loss, IoULoss) else 1.0  # areas beyond the range of float16
    y_true, half = y_true * scale, keras.ops.cast(y_pred * scale, dtype)
    values = loss.call(y_true, half)
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    expected = loss.call(y_true, keras.ops.cast(half, "float32"))
    np.testing.assert_array_equal(to_numpy(values), to_numpy(expected))
    assert float(keras.ops.mean(expected)) > 0
    assert float(loss(y_true, half)) == pytest.approx(float(keras.ops.mean(expected)), rel=1e-5)


def test_binary_crossentropy_of_keras_is_a_loss_of_a_quality_branch():
    """Of logits (B, A, 1), one value per location, also where the branch is certain."""
    y_true = np.float32([[0.0, 0.3, 1.0, 0.7, 1.0, 0.0]])[..., None]
    logits = np.float32([[0.0, 2.0, -3.0, 0.0, -80.0, 80.0]])[..., None]
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    probability = 1 / (1 + np.exp(-logits[0, :4, 0].astype("float64")))
    target = y_true[0, :4, 0]
    expected = -(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    values = to_numpy(per_location(loss, y_true, logits))
    np.testing.assert_allclose(values[0], [*expected, 80, 80], rtol=1e-5)
    slopes = gradient(lambda x: keras.ops.sum(per_location(loss, y_true, x)), logits)
    np.testing.assert_allclose(
        slopes[0, :, 0], [*(probability - target), -1, 1], rtol=1e-4, atol=1e-6
    )
