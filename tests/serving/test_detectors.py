"""Detectors made of other parts than GFLV2, exported: the same detections in every runtime."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from common import DETECTORS, SETS, assert_same_detections, random_batch, small_detector, to_numpy
from PIL import Image
from serving.conftest import encode

from keras_gflv2 import cli
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.serving import export_format, export_saved_model, load_openvino
from keras_gflv2.serving.formats import OPENVINO_FLOAT32

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports run under TensorFlow on every backend"
)
SIZE = (64, 96)
THRESHOLD = 0.1


def some(*names):
    """Exports take long: all detectors only with -m slow."""
    return [pytest.param(n, marks=[] if n in names else pytest.mark.slow) for n in DETECTORS]


def make(name, class_names=("a", "b", "c"), **arguments):
    """A detector that finds something: its last convolutions are not near zero."""
    decoder = PredictionDecoder(THRESHOLD, max_detections=20)
    arguments = {**arguments, "class_names": class_names, "image_size": SIZE}
    model = small_detector(name, prediction_decoder=decoder, **arguments)
    rng = np.random.default_rng(0)
    for convolution in (model.head.classification_conv, model.head.regression_conv):
        kernel, bias = convolution.variables
        kernel.assign(rng.normal(size=kernel.shape) * np.sqrt(2 / np.prod(kernel.shape[:-1])))
        bias.assign(bias - bias - 1.0)
    return model


@pytest.fixture(scope="module")
def images():
    """Not a multiple of 32."""
    return np.round(random_batch(size=(60, 90))["images"])


def assert_equals_predict(model, found, images):
    wanted = to_numpy(model.decode_predictions(model(images), images))
    assert set(found) == set(wanted) and (wanted["num_detections"] > 0).all()
    assert ("uncertainties" in found) == model.representation.has_spread
    last = wanted["confidence"].max(0)[-1]
    if model.bounding_box_format.startswith("rel"):
        found, wanted = (in_pixels(side, images) for side in (found, wanted))
    assert_same_detections(found, wanted, 1e-3, 0.05, threshold=last, uncertainty=1e-3)


def in_pixels(detections, images):
    """Those of a relative format of which x comes first."""
    unit = np.tile(images.shape[2:0:-1], 2)
    names = [name for name in ("boxes", "uncertainties") if name in detections]
    return {**detections, **{name: detections[name] * unit for name in names}}


@pytest.mark.parametrize("name", some("guided RetinaNet"))
def test_saved_models(name, images, tmp_path):
    model = make(name, bounding_box_format="rel_center_xywh")
    served = tf.saved_model.load(export_saved_model(model, tmp_path / "served" / "1"))
    call = served.signatures
    found = to_numpy(call["serving_images"](images=tf.constant(images, tf.uint8)))
    assert_equals_predict(model, found, images)
    raw, expected = to_numpy(call["raw"](images=tf.constant(images))), to_numpy(model(images))
    assert set(raw) == set(expected)
    for key in expected:
        np.testing.assert_allclose(raw[key], expected[key], atol=1e-4)
    encoded = tf.constant([encode(image.astype("uint8"), "PNG") for image in images])
    options = {"score_threshold": tf.constant([0.1, 0.3]), "nms_iou_threshold": tf.fill([2], 0.5)}
    files = to_numpy(call["serving_bytes_options"](image_bytes=encoded, **options))
    probability = model.quality and model.candidate_scores(expected) is not None
    assert probability or (files["confidence"][1][files["classes"][1] >= 0] > 0.3).all()
    found = to_numpy(call["serving_bytes"](image_bytes=encoded))
    for row, wanted in enumerate(model.detect(list(images.astype("uint8")), score_threshold=0.0)):
        keys = [key for key in SETS if key in found]
        assert ("uncertainties" in keys) == model.representation.has_spread
        one = {key: found[key][row] for key in keys}
        last = wanted["confidence"].min()
        assert_same_detections(one, wanted, 1e-3, 0.05, threshold=last, uncertainty=2e-3)
    record = json.loads((tmp_path / "served/1/assets/detector.json").read_text())
    assert record["detector"] == type(model).__name__
    assert record["representation"]["class_name"] == type(model.representation).__name__


@pytest.mark.parametrize("box_format", ["xyxy", "rel_xywh"])
@pytest.mark.parametrize("name", some("ATSS"))
def test_onnx(name, box_format, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = make(name, bounding_box_format=box_format)
    session = onnxruntime.InferenceSession(export_format(model, tmp_path / "a.onnx", "onnx"))
    for batch in (images, images[:1, :33]):
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, {"images": batch})))
        assert_equals_predict(model, found, batch)


@pytest.mark.parametrize("name", some())
def test_openvino(name, images, tmp_path):
    openvino = pytest.importorskip("openvino")
    model = make(name)
    file = export_format(model, tmp_path / "a.xml", "openvino")
    compiled = openvino.Core().compile_model(file, "CPU", OPENVINO_FLOAT32)
    found = {output.get_any_name(): value for output, value in compiled(images).items()}
    assert_equals_predict(model, found, images)


@keras.saving.register_keras_serializable(package="tests")
class EveryOtherLocation(PredictionDecoder):
    """A decoder of a user: NMS over the locations with an even index."""

    def choose_locations(self, scores, locations_per_level):
        return super().choose_locations(scores, locations_per_level)[:, ::2]


@pytest.mark.parametrize(
    "format, ending",
    [
        pytest.param("onnx", "onnx", marks=pytest.mark.slow),
        pytest.param("openvino", "xml", marks=pytest.mark.slow),
        ("litert", "tflite"),
    ],
)
def test_decoders_of_users(format, ending, images, tmp_path):
    """They are exported as they are, without the operators of the runtimes."""
    model = make("FCOS")
    model.prediction_decoder = EveryOtherLocation(THRESHOLD, max_detections=20)
    size = images.shape[1:3] if format == "litert" else None
    file = export_format(model, tmp_path / f"a.{ending}", format, size=size)
    one = images[:1]
    if format == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(file)
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, {"images": one})))
    elif format == "openvino":
        pytest.importorskip("openvino")
        found = {output.get_any_name(): v for output, v in load_openvino(file)(one).items()}
    else:
        interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(file)
        found = interpreter.get_signature_runner("serving_default")(images=one)
    assert_equals_predict(model, found, one)


@pytest.mark.parametrize("name", some("guided FCOS", "RetinaNet"))
def test_litert(name, images, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    model = make(name)
    file = export_format(model, tmp_path / "a.tflite", "litert", size=images.shape[1:3])
    runner = interpreter.Interpreter(file).get_signature_runner("serving_default")
    assert_equals_predict(model, runner(images=images[:1]), images[:1])


def test_the_command_line(images, tmp_path, capsys):
    file = str(tmp_path / "atss.keras")
    make("ATSS", ["circle", "square", "triangle"]).save(file)
    data = ["--data", "shapes:val:2", "--batch-size", "2", "--image-size", "64", "96"]
    assert cli.main(["evaluate", "--model", file, *data]) == 0
    Image.fromarray(images[0].astype("uint8")).save(tmp_path / "photo.png")
    output = ["--output", str(tmp_path / "found")]
    assert cli.main(["predict", "--model", file, str(tmp_path / "photo.png"), *output]) == 0
    export = ["export", "--model", file, "--format", "litert", "--size", "60", "90"]
    assert cli.main([*export, "--output", str(tmp_path / "a.tflite")]) == 0
    assert (tmp_path / "a.tflite").stat().st_size > 10_000
