"""Calibration on errors of known laws: scales, quantiles and coverage have closed forms."""

import dataclasses
import statistics

import numpy as np
import pytest
from common import small_detector, small_model, to_numpy
from evaluation.fake_model import FakeModel, make_batch

from keras_gflv2.evaluation import calibrate, uncertainty
from keras_gflv2.evaluation.calibration import calibration_of
from keras_gflv2.evaluation.coco import MatchedDetections
from keras_gflv2.evaluation.uncertainty import spearman, uncertainty_of
from keras_gflv2.intervals import conformal_intervals, conformal_quantile
from keras_gflv2.postprocessing import SideCalibration, TestTimeAugmentation

SCALE = np.array([0.5, 1.0, 1.5, 2.0])
BIAS = np.array([0.3, 0.0, -0.3, -0.6])
NORMAL = statistics.NormalDist()


def gaussian(count, seed=0, exponent=1.0, bias=0.0, size=100.0):
    """Detections whose errors are normal: SCALE * spread ** exponent * size ** (1 - exponent)."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 300, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    spread = np.exp(rng.normal(1.5, 0.8, (count, 4)))
    sigma = SCALE * spread**exponent * size ** (1 - exponent)
    truth = boxes + sigma * (rng.normal(size=(count, 4)) + bias)
    return MatchedDetections(
        images=np.arange(count) // 10,
        classes=np.zeros(count, int),
        scores=np.ones(count),
        boxes=boxes,
        true_boxes=truth,
        uncertainties=spread,
    )


def calibrated(matches, calibration):
    sides = [np.float32(values) for values in (matches.uncertainties, matches.boxes)]
    return dataclasses.replace(matches, uncertainties=to_numpy(calibration.deviations(*sides)))


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_what_is_learnt_is_the_law_of_the_errors(exponent):
    learnt = calibration_of(gaussian(4000, exponent=exponent, bias=BIAS))
    assert abs(learnt.exponent - exponent) <= 0.1
    at_median = np.exp(1.5) ** (learnt.exponent - exponent) * 100 ** (exponent - learnt.exponent)
    np.testing.assert_allclose(np.array(learnt.scale) * at_median, SCALE, rtol=0.1)
    np.testing.assert_allclose(learnt.bias, BIAS, atol=0.05)
    expected = [[NORMAL.inv_cdf((1 + q) / 2)] * 4 for q in (0.5, 0.8, 0.9, 0.95)]
    got = [conformal_quantile(q, learnt.get_config()) for q in (0.5, 0.8, 0.9, 0.95)]
    np.testing.assert_allclose(got, expected, rtol=0.1)


def test_intervals_hold_the_asked_share_of_new_objects_and_are_narrower_than_constant_ones():
    learnt = calibration_of(gaussian(2000, bias=BIAS))
    new = calibrated(gaussian(5000, seed=1, bias=BIAS), learnt)
    report = uncertainty_of(new, learnt.get_config(), (0.5, 0.8, 0.9, 0.95, 0.913))
    for row in report["curve"]:
        assert abs(row["coverage"] - row["nominal"]) < 0.03, row
        if row["side"] == "all" and row["nominal"] >= 0.9:
            assert row["width"] < 0.85 * row["constant_width"], row
    for side in report["sides"].values():
        assert abs(side["normalized_std"] - 1) < 0.1
        assert side["spearman"] > 0.4


def test_few_images_do_not_make_intervals_too_narrow():
    held = []
    for seed in range(60):
        learnt = calibration_of(gaussian(25, seed, bias=BIAS))
        new = calibrated(gaussian(500, 1000 + seed, bias=BIAS), learnt)
        intervals = learnt.intervals(new.boxes, new.uncertainties, 0.8)
        inside = (intervals[..., 0] <= new.true_boxes) & (new.true_boxes <= intervals[..., 1])
        held.append(inside.mean())
    assert 0.79 < np.mean(held) < 0.88


def test_a_quantile_is_the_one_of_split_conformal_prediction():
    # 19 scores of 1..19 for each side: ceil(20 q) is the rank.
    table = {
        "bias": [0] * 4,
        "coverages": [0.5, 0.9, 0.95],
        "quantiles": [[10] * 4, [18] * 4, [19] * 4],
        "num_matched": 19,
    }
    for coverage, expected in ((0.5, 10), (0.9, 18), (0.95, 19), (0.7, 14), (0.25, 5)):
        np.testing.assert_allclose(conformal_quantile(coverage, table), [expected] * 4)
    intervals = conformal_intervals([[10, 20, 30, 40]], [[1, 1, 1, 2]], 0.5, table)
    assert intervals.shape == (1, 4, 2) and intervals.dtype == np.float32
    assert intervals[0].tolist() == [[0, 20], [10, 30], [20, 40], [20, 60]]
    with pytest.raises(ValueError, match=r"19 matched.*0\.95"):
        conformal_quantile(0.96, table)
    for coverage in (0, 1, 1.0, -0.1, "0.9", True, float("nan")):
        with pytest.raises(ValueError, match="greater than 0 and less than 1"):
            conformal_quantile(coverage, table)


def test_the_table_has_the_ranks_of_the_finite_sample():
    learnt = calibration_of(gaussian(49))
    assert learnt.num_matched == 49
    assert learnt.coverages[-1] == pytest.approx(49 / 50)  # the largest score
    assert {0.5, 0.8, 0.9, 0.95} < set(learnt.coverages)
    up_to_95 = np.array(learnt.quantiles)[np.array(learnt.coverages) <= 0.951]
    assert len(up_to_95) == 19 and (np.diff(up_to_95, axis=0) > 0).all()  # of 5, 10, ..., 95 %


def test_deviations_scale_with_the_pixels_and_grow_with_the_spread():
    calibration = SideCalibration(SCALE, 0.6)
    spread, boxes = np.float32([[1, 2, 3, 4]]), np.float32([[0, 0, 40, 90]])
    one = to_numpy(calibration.deviations(spread, boxes))
    np.testing.assert_allclose(one, SCALE * spread**0.6 * 60**0.4, rtol=1e-5)
    np.testing.assert_allclose(
        to_numpy(calibration.deviations(3 * spread, 3 * boxes)), 3 * one, rtol=1e-5
    )
    assert (to_numpy(calibration.deviations(2 * spread, boxes)) > one).all()
    flat = to_numpy(calibration.deviations(0 * spread, 0 * boxes))
    assert np.isfinite(flat).all() and (flat >= 0).all()


@pytest.mark.parametrize(
    "change",
    [
        {"scale": [1, 1, 1]},
        {"scale": [1, 1, 1, 0]},
        {"exponent": 1.1},
        {"bias": [0, 0, 0, np.inf]},
        {"coverages": [0.9, 0.5]},
        {"coverages": [0.5, 1.0]},
        {"coverages": [0.5]},
        {"quantiles": [[2] * 4, [1] * 4]},
    ],
)
def test_a_calibration_that_cannot_be_is_an_error(change):
    good = {"scale": [1] * 4, "coverages": [0.5, 0.9], "quantiles": [[1] * 4, [2] * 4]}
    SideCalibration(**good)
    with pytest.raises(ValueError, match="SideCalibration needs"):
        SideCalibration(**{**good, **change})


def test_rank_correlation_and_report_without_calibration():
    assert spearman([1, 2, 2, 4], [10, 20, 20, 70]) == pytest.approx(1)
    # Ranks 1, 2.5, 2.5, 4 and 4, 1, 2, 3, by hand: covariance -0.75 / (4 * ...).
    expected = np.corrcoef([1, 2.5, 2.5, 4], [4, 1, 2, 3])[0, 1]
    assert spearman([1, 2, 2, 4], [9, 1, 2, 3]) == pytest.approx(expected)
    assert np.isnan(spearman([1, 1], [1, 2]))
    report = uncertainty_of(gaussian(5000))
    for index, side in enumerate(("left", "top", "right", "bottom")):
        got = report["sides"][side]
        assert got["normalized_std"] == pytest.approx(SCALE[index], rel=0.05)
        expected = 2 * NORMAL.cdf(1 / SCALE[index]) - 1
        assert got["within"] == pytest.approx(expected, abs=0.03)
        (row,) = (r for r in report["curve"] if r["side"] == side and r["nominal"] == 0.8)
        expected = 2 * NORMAL.cdf(NORMAL.inv_cdf(0.9) / SCALE[index]) - 1
        assert row["coverage"] == pytest.approx(expected, abs=0.03)


class TellsUncertainties(FakeModel):
    """A `FakeModel` with uncertainties, calibrated as a detector's."""

    calibration = None

    def predict_on_batch(self, inputs):
        found = super().predict_on_batch(inputs)
        spread = np.full_like(found["boxes"], 2.0)
        if self.calibration is not None:
            spread = to_numpy(self.calibration.deviations(spread, np.abs(found["boxes"])))
        return {**found, "uncertainties": spread}


def one_box_images(count, sizes=None):
    """Batches of one image with one object, and detections that are off by 1, 2, 3 and 4 pixels."""
    boxes = [[[50.0, 50.0, 150.0, 150.0]]] * count
    found = [([[51.0, 52.0, 147.0, 146.0]], [0], [0.9])] * count
    batches = [make_batch([b], [[0]], **({} if sizes is None else sizes)) for b in boxes]
    return found, batches


def test_a_model_is_calibrated_in_pixels_of_the_original_images():
    sizes = {"image_sizes": np.array([[200, 300]]), "original_sizes": np.array([[400, 600]])}
    found, batches = one_box_images(30, sizes)
    model = TellsUncertainties(found * 3)
    with pytest.warns(UserWarning, match="Only 30 detections") as warned:
        calibration = calibrate(model, batches, verbose=0)
    assert any("No detection of 1 matches" in str(w.message) for w in warned)
    assert model.calibration is calibration
    report = uncertainty(model, batches, coverages=(0.5, 0.9), verbose=0)
    assert report["calibrated"] and report["num_matched"] == report["num_objects"] == 30
    errors = [report["sides"][side]["bias"] for side in ("left", "top", "right", "bottom")]
    np.testing.assert_allclose(errors, [-2, -4, 6, 8])
    for row in report["curve"]:
        assert row["coverage"] > 0.9  # the errors are constant: bias alone
        assert row["width"] < 0.1
    again = calibrate_again(model, batches)
    np.testing.assert_allclose(again.scale, calibration.scale, rtol=1e-5)


def calibrate_again(model, batches):
    """A calibration starts from the raw spread, whatever the model had."""
    model.detections = one_box_images(30)[0]
    with pytest.warns(UserWarning):
        return calibrate(model, batches, verbose=0)


def test_too_little_to_calibrate_says_what_to_do():
    found, batches = one_box_images(10)
    with pytest.raises(ValueError, match=r"Only 10 detections match.*more images"):
        calibrate(TellsUncertainties(found), batches, verbose=0)
    with pytest.raises(ValueError, match=r"None of 0 detections.*Train the detector"):
        calibrate(TellsUncertainties([]), batches, verbose=0)
    with pytest.raises(ValueError, match="None of 10 detections"):
        wrong = [([[0.0, 0.0, 20.0, 20.0]], [0], [0.9])] * 10
        uncertainty(TellsUncertainties(wrong), batches, verbose=0)
    batch = make_batch([[[5, 5, 60, 60]]], [[0]], size=(64, 96))
    with pytest.raises(ValueError, match=r"no uncertainties.*GFLV2"):
        calibrate(small_detector("FCOS"), [batch], verbose=0)
    with pytest.raises(ValueError, match="itself, got a TestTimeAugmentation"):
        calibrate(TestTimeAugmentation(small_model()), [batch], verbose=0)
