"""What the app's detector says is what `detect` says, whatever thresholds are chosen later."""

import keras
import numpy as np
import pytest
from common import assert_same_detections, copy_of, small_detector, small_model

from keras_gflv2.app.interactive_detector import InteractiveDetector
from keras_gflv2.postprocessing import PredictionDecoder, SideCalibration

LEAST = 0.05  # the score threshold of decoders


def photo(batch, size=(150, 120)):
    """An image of another size than the detector's, with the first of a batch in it."""
    pixels = np.zeros((*size, 3), "uint8")
    known = np.rint(batch["images"][0]).astype("uint8")
    pixels[: min(size[0], 96), : min(size[1], 128)] = known[: size[0], : size[1]]
    return pixels


def as_detections(told):
    """The results of `decode` as `detect` has them."""
    boxes = np.array([row["result"]["bbox"] for row in told]).reshape(-1, 4)
    return {
        "boxes": np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=-1),
        "classes": np.array([row["result"]["category_id"] - 1 for row in told], int),
        "confidence": np.array([row["result"]["score"] for row in told]),
        "uncertainties": np.array([row["result"].get("uncertainties", [0] * 4) for row in told]),
    }


@pytest.mark.parametrize("size", [(96, 128), (150, 120), (40, 300)])
def test_detections_are_those_of_detect(trained, detector, size):
    model, batch = trained
    pixels = photo(batch, size)
    told = detector.decode(detector.look(pixels))
    (expected,) = model.detect(pixels, LEAST)
    assert told
    assert_same_detections(as_detections(told), expected, 1e-4, 0.01, LEAST)
    names = [row["result"]["category_name"] for row in told]
    assert sorted(names) == sorted(expected["class_names"])


def test_another_nms_threshold_needs_no_network(trained, monkeypatch):
    model, batch = trained
    detector = InteractiveDetector(model)
    pixels = photo(batch)
    looked = detector.look(pixels)
    monkeypatch.setattr(detector, "_network", None)
    counts = []
    for threshold in (0.1, 0.9):
        other = copy_of(model)
        other.prediction_decoder = PredictionDecoder(nms_iou_threshold=threshold)
        (expected,) = other.detect(pixels, LEAST)
        told = detector.decode(looked, threshold)
        assert_same_detections(as_detections(told), expected, 1e-4, 0.01, LEAST)
        counts.append(len(told))
    assert counts[0] < len(detector.decode(looked)) < counts[1]


def test_sides_and_scores_are_explained(trained, detector):
    """Eq. 2: a side is the mean of its distribution; Eq. 3: the score is class times quality."""
    pixels = photo(trained[1])
    told = detector.decode(detector.look(pixels))
    inside = 0
    for row in told:
        assert row["class_score"] * row["quality"] == pytest.approx(
            row["result"]["score"], abs=1e-3
        )
        for i, side in enumerate(row["sides"]):
            probabilities = np.array(side["probabilities"])
            places = side["start"] + side["step"] * np.arange(len(probabilities))
            mean = (probabilities * places).sum() / probabilities.sum()
            variance = (probabilities * (places - mean) ** 2).sum()
            off = 5e-5 * np.abs(places - mean)  # four decimals are told
            told_variance = row["result"]["uncertainties"][i] ** 2
            assert abs(variance - told_variance) < (off * np.abs(places - mean)).sum() + 0.01
            if 1 < row["box"][i] < pixels.shape[1 - i % 2] - 1:  # not cut at the edge
                assert abs(mean - row["box"][i]) < off.sum() + 0.01
                inside += 1
    assert inside > 4


@pytest.mark.parametrize("name", ["FCOS", "guided RetinaNet"])
def test_every_kind_of_detector_is_told(name):
    """Those without distributions say so, and nothing of sides."""
    decoder = PredictionDecoder(score_threshold=0.0, max_detections=5)
    model = small_detector(name, image_size=(64, 64), prediction_decoder=decoder)
    detector = InteractiveDetector(model)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), "uint8")
    told = detector.decode(detector.look(pixels))
    assert told
    assert_same_detections(as_detections(told), model.detect(pixels, 0.0)[0], 1e-4, 0.01)
    for row in told:
        assert ("sides" in row) == ("uncertainties" in row["result"]) == detector.has_distributions
    assert detector.has_distributions == (name == "guided RetinaNet")


def test_relative_formats_and_calibrations_are_followed(trained):
    """Boxes leave in pixels whatever the format; uncertainties are the calibrated ones."""
    model, batch = trained
    config = {**model.get_config(), "bounding_box_format": "rel_yxyx"}
    other = type(model).from_config(config)
    other.set_weights(model.get_weights())
    other.calibration = SideCalibration(
        scale=(0.5, 1, 2, 3), coverages=(0.5, 0.9), quantiles=((1,) * 4, (2,) * 4), num_matched=9
    )
    pixels = photo(batch)
    detector = InteractiveDetector(other, coverage=0.9)
    told = detector.decode(detector.look(pixels))
    (expected,) = other.detect(pixels, LEAST, coverage=0.9)
    assert_same_detections(as_detections(told), expected, 1e-4, 0.01, LEAST)
    intervals = np.array([row["result"]["intervals"] for row in told])
    sums = expected["intervals"].sum(axis=(1, 2))
    np.testing.assert_allclose(np.sort(intervals.sum(axis=(1, 2))), np.sort(sums), atol=0.1)


def test_intervals_need_a_calibration():
    with pytest.raises(ValueError, match="needs a calibration"):
        InteractiveDetector(small_model(), coverage=0.9)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="compiles for each canvas")
def test_sizes_share_a_canvas(trained, detector):
    looked = [detector.look(photo(trained[1], (96, width))) for width in (128, 120)]
    assert looked[0].canvas == looked[1].canvas
    assert looked[0].resized != looked[1].resized
