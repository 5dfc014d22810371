"""A detector with a calibration: what it returns, and that it keeps it."""

import warnings

import keras
import numpy as np
import pytest
from common import assert_same_detections, copy_of, random_batch, small_detector

import keras_gflv2
from keras_gflv2.postprocessing import SideCalibration, TestTimeAugmentation

CALIBRATION = SideCalibration(
    [0.5, 1.0, 2.0, 3.0],
    exponent=0.75,
    bias=[0.1, 0, -0.2, 0],
    coverages=[0.5, 0.9, 0.95],
    quantiles=[[0.6] * 4, [1.5] * 4, [2, 2, 2, 3]],
    num_matched=19,
)


@pytest.fixture(scope="module")
def models(trained):
    """A detector without and with a calibration."""
    model, _ = trained
    calibrated = copy_of(model)
    calibrated.predict(np.zeros((1, 96, 128, 3), "float32"), verbose=0)  # compiled before
    calibrated.calibration = CALIBRATION
    return model, calibrated


def test_uncertainties_are_calibrated_wherever_they_come_from(models, trained):
    images = trained[1]["images"]
    raw, got = (m.predict(images, verbose=0) for m in models)
    for key in ("boxes", "classes", "confidence"):
        np.testing.assert_allclose(got[key], raw[key], atol=1e-4)
    present = raw["classes"] >= 0
    boxes, spread = raw["boxes"][present], raw["uncertainties"][present]
    length = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True))
    expected = np.array(CALIBRATION.scale) * spread**0.75 * length**0.25
    np.testing.assert_allclose(got["uncertainties"][present], expected, rtol=1e-3)
    assert (got["uncertainties"][~present] == -1).all()
    on_batch = models[1].predict_on_batch(images)
    assert_same_detections(on_batch, got, uncertainty=0.05)
    (found,) = models[1].detect(images[0], score_threshold=0.1)
    first = {key: values[0] for key, values in got.items()}
    keep = first["confidence"] > 0.1
    first = {key: first[key][keep] for key in ("boxes", "classes", "confidence", "uncertainties")}
    assert_same_detections(found, first, 0.01, 0.5, threshold=0.1, uncertainty=0.5)


def test_relative_formats_have_relative_uncertainties_of_the_same_calibration(models, trained):
    _, calibrated = models
    config = {**calibrated.get_config(), "bounding_box_format": "rel_xyxy"}
    relative = type(calibrated).from_config(config)
    relative.set_weights(calibrated.get_weights())
    images = trained[1]["images"]
    one, other = (m.predict(images, verbose=0) for m in (calibrated, relative))
    present = one["classes"] >= 0
    scaled = other["uncertainties"] * np.array([128, 96, 128, 96])
    np.testing.assert_allclose(scaled[present], one["uncertainties"][present], rtol=1e-3)


def test_detect_gives_intervals_in_pixels_of_the_photo(models, trained):
    _, calibrated = models
    photo = np.repeat(np.repeat(trained[1]["images"][0].astype("uint8"), 2, 0), 2, 1)
    (found,) = calibrated.detect(photo, 0.2, coverage=0.9)
    boxes, deviations = found["boxes"], found["uncertainties"]
    assert len(boxes) and found["intervals"].shape == (len(boxes), 4, 2)
    bias = np.array(CALIBRATION.bias)
    for end, sign in ((0, -1), (1, 1)):
        expected = boxes + (bias + sign * 1.5) * deviations
        np.testing.assert_allclose(found["intervals"][..., end], expected, rtol=1e-4)
    (wider,) = calibrated.detect(photo, 0.2, coverage=0.95)
    assert (wider["intervals"][..., 1] > found["intervals"][..., 1]).all()
    assert "intervals" not in calibrated.detect(photo, 0.2)[0]
    (none,) = calibrated.detect(photo, 0.9999, coverage=0.9)
    assert none["intervals"].shape == (0, 4, 2)
    (views,) = TestTimeAugmentation(calibrated, (1.0,)).detect(photo, 0.2, coverage=0.9)
    assert views["intervals"].shape == (len(views["boxes"]), 4, 2)


def test_coverage_without_a_calibration_says_how_to_get_one(models, trained):
    model, calibrated = models
    image = trained[1]["images"][0]
    with pytest.raises(ValueError, match="keras-gflv2 calibrate"):
        model.detect(image, coverage=0.9)
    with pytest.raises(ValueError, match="without distributions cannot"):
        small_detector("FCOS").detect(image, coverage=0.9)
    with pytest.raises(ValueError, match="less than 1"):
        calibrated.detect(image, coverage=1.0)
    with pytest.raises(ValueError, match="Calibrate on more images"):
        calibrated.detect(image, coverage=0.99)
    with pytest.raises(ValueError, match="must be a SideCalibration"):
        copy_of(model).calibration = 0.5


def test_files_keep_the_calibration_and_those_without_one_are_as_before(models, tmp_path):
    model, calibrated = models
    assert "calibration" not in model.get_config()
    expected = CALIBRATION.get_config()
    calibrated.save(tmp_path / "model.keras")
    calibrated.save_to_preset(tmp_path / "preset")
    copies = [
        copy_of(calibrated),
        keras.saving.load_model(tmp_path / "model.keras"),
        keras_gflv2.DenseDetector.from_preset(str(tmp_path / "preset")),
        keras_gflv2.DenseDetector.from_preset(str(tmp_path / "preset"), num_classes=5),
    ]
    for copy in copies:
        assert copy.calibration.get_config() == expected
    assert copy_of(model).calibration is None
    fresh = keras_gflv2.DenseDetector.from_preset(str(tmp_path / "preset"), load_weights=False)
    assert fresh.calibration is None


def test_training_drops_the_calibration(models):
    _, calibrated = models
    model, batch = copy_of(calibrated), random_batch()
    model.compile("adam", run_eagerly=keras.backend.backend() == "tensorflow")
    data = (batch["images"], batch["bounding_boxes"])
    with pytest.warns(UserWarning, match="training drops it"):
        model.fit(*data, batch_size=2, verbose=0)
    assert model.calibration is None
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.drop_calibration()
