import keras
import numpy as np
import pytest
from common import SHARED, golden, nhwc, to_numpy
from losses.gradients import gradient, numerical_gradient

from keras_gflv2.losses import FocalLoss
from keras_gflv2.losses.per_location import per_location


def formula(y_true, logits, alpha, gamma):
    """Focal loss from the probability of what is true, class by class, in float64."""
    probability = 1 / (1 + np.exp(-np.asarray(logits, "float64")))
    of_truth = np.where(y_true > 0, probability, 1 - probability)
    weight = np.where(y_true > 0, alpha, 1 - alpha)
    return (-weight * (1 - of_truth) ** gamma * np.log(of_truth)).sum(-1)


def some_logits(seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (2, 7, 5)).astype("float32")
    logits[0, 0] = 0.0  # where a formula of absolute values has no slope
    return (rng.uniform(size=(2, 7, 5)) < 0.3).astype("float32"), logits


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.4, 1.5), (0.5, 0.0), (0.25, 0.5)])
def test_values_and_gradients_are_those_of_the_formula(alpha, gamma):
    y_true, logits = some_logits()
    loss = FocalLoss(alpha, gamma)
    expected = formula(y_true, logits, alpha, gamma)
    np.testing.assert_allclose(to_numpy(loss.call(y_true, logits)), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        gradient(lambda x: keras.ops.sum(loss.call(y_true, x)), logits),
        numerical_gradient(lambda x: formula(y_true, x, alpha, gamma).sum(), logits),
        rtol=1e-3,
        atol=1e-5,
    )
    probabilities = 1 / (1 + np.exp(-logits))
    of_probabilities = FocalLoss(alpha, gamma, from_logits=False)
    np.testing.assert_allclose(
        to_numpy(of_probabilities.call(y_true, probabilities)), expected, rtol=1e-3, atol=1e-5
    )


def test_gamma_0_is_half_of_the_cross_entropy():
    y_true, logits = some_logits(1)
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    np.testing.assert_allclose(
        to_numpy(FocalLoss(0.5, 0.0).call(y_true, logits)),
        to_numpy(per_location(cross_entropy, y_true, logits)) / 2,
        rtol=1e-5,
        atol=1e-6,
    )


def test_alpha_weighs_what_is_there_and_gamma_what_is_wrong():
    at_zero = FocalLoss(0.25, 2.0)
    zero = np.float32([[0.0]])
    assert float(at_zero(np.float32([[1.0]]), zero)) == pytest.approx(0.25 * 0.25 * np.log(2))
    assert float(at_zero(np.float32([[0.0]]), zero)) == pytest.approx(0.75 * 0.25 * np.log(2))


@pytest.mark.parametrize("gamma", [2.0, 1.5, 0.5, 0.0])
@pytest.mark.parametrize("from_logits", [True, False])
def test_values_and_gradients_are_finite_where_predictions_are_certain(gamma, from_logits):
    loss = FocalLoss(gamma=gamma, from_logits=from_logits)
    y_true = np.float32([[1.0], [1.0], [0.0], [0.0]])
    sure = np.float32([[1e4], [-1e4], [1e4], [-1e4]]) if from_logits else y_true[[0, 2, 0, 2]]
    values = to_numpy(loss.call(y_true, sure))
    if from_logits:  # the logarithm of a sigmoid is its argument there
        np.testing.assert_allclose(values, [0, 0.25e4, 0.75e4, 0], rtol=1e-5, atol=1e-6)
    assert np.isfinite(values).all() and (values[[0, 3]] < 1e-3).all()
    slopes = gradient(lambda x: keras.ops.sum(loss.call(y_true, x)), sure)
    assert np.isfinite(slopes).all()
    if from_logits:
        np.testing.assert_allclose(slopes.ravel(), [0, -0.25, 0.75, 0], atol=1e-6)


@pytest.mark.parametrize("alpha, gamma", [(-0.1, 2.0), (1.1, 2.0), (0.25, -1.0)])
def test_arguments_without_meaning_are_refused(alpha, gamma):
    with pytest.raises(ValueError, match="`alpha` must be in"):
        FocalLoss(alpha, gamma)


@pytest.mark.skipif(not (SHARED / "baselines").exists(), reason="needs ../shared/baselines")
@pytest.mark.parametrize(
    "detector, arguments, of_images",
    [
        ("atss", {}, 0),
        ("retina", {}, 0),
        ("fcos", {}, 2),
        ("fovea", {"alpha": 0.4, "gamma": 1.5}, 2),
    ],
)
def test_classification_losses_equal_the_official_ones(detector, arguments, of_images):
    data = np.load(SHARED / "baselines" / f"{detector}.npz")
    recorded = golden("assignments.npz")
    for batch in range(3):
        maps = [nhwc(data[f"{batch}_cls_{level}"]) for level in range(5)]
        logits = np.concatenate([m.reshape(2, -1, 3) for m in maps], 1)  # (B, A, C)
        labels = recorded[f"{detector}__{batch}_labels"]
        weights = recorded.get(f"{detector}__{batch}_label_weights", np.ones(labels.shape))
        losses = to_numpy(FocalLoss(**arguments).call(np.eye(4, 3, dtype="f4")[labels], logits))
        positives = (labels < 3).sum(1)
        count = positives.sum() + of_images if of_images else np.maximum(positives, 1).sum()
        total = (losses * (weights > 0)).sum(dtype="float64") / count
        assert total == pytest.approx(float(data[f"{batch}_loss_cls"]), rel=1e-5)
