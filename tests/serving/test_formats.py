"""Exports to other runtimes, run in those runtimes: the detections of `predict`."""

import keras
import numpy as np
import pytest

from keras_gflv2 import cli
from keras_gflv2.images import read_image, resize_image
from keras_gflv2.serving import export_format
from keras_gflv2.serving.formats import OPENVINO_FLOAT32

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports run under TensorFlow on every backend"
)


@pytest.fixture(scope="module")
def images(pictures):
    """Two pictures of one size, not a multiple of 32."""
    # Both have objects: nothing found on both sides would prove nothing.
    resized = [resize_image(read_image(p), (200, 300)) for p in pictures[:2]]
    return np.stack(resized).astype("float32")


def assert_equals_predict(found, wanted, score=1e-3):
    assert (wanted["num_detections"] > 0).all()
    np.testing.assert_array_equal(found["num_detections"], wanted["num_detections"])
    np.testing.assert_allclose(found["confidence"], wanted["confidence"], atol=score)
    same = found["classes"] == wanted["classes"]
    assert same.mean() > 0.98  # near ties may change places
    near = np.abs(found["boxes"] - wanted["boxes"]).max(-1) < 0.5
    assert near.mean() > 0.95


def test_onnx_runtime(model, images, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    file = export_format(model, tmp_path / "cells.onnx", "onnx")
    session = onnxruntime.InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    for batch in (images, images[:1, :97, :130]):
        found = dict(zip(names, session.run(None, {"images": batch})))
        assert_equals_predict(found, model.predict_on_batch(batch))
    assert [p.name for p in tmp_path.iterdir()] == ["cells.onnx"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_openvino(model, images, tmp_path, precision):
    openvino = pytest.importorskip("openvino")
    file = export_format(model, tmp_path / "cells.xml", "openvino", precision=precision)
    compiled = openvino.Core().compile_model(file, "CPU", OPENVINO_FLOAT32)
    bounds = {"float32": 1e-3, "float16": 0.02}
    for batch in (images, images[:1, :97, :130]):
        found = {output.get_any_name(): value for output, value in compiled(batch).items()}
        wanted = model.predict_on_batch(batch)
        if precision == "float16":  # one more or less may pass the threshold
            first = slice(0, int(min(found["num_detections"].min(), 5)))
            np.testing.assert_allclose(
                found["confidence"][:, first], wanted["confidence"][:, first], atol=0.02
            )
        else:
            assert_equals_predict(found, wanted, bounds[precision])


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8_with_a_calibration_set(model, images, tmp_path, format):
    ending = {"onnx": ".onnx", "openvino": ".xml"}[format]
    sizes = {}
    for precision, calibration in (("float32", None), ("int8", [images, images[:1]])):
        file = tmp_path / precision / f"cells{ending}"
        export_format(model, file, format, precision=precision, calibration=calibration)
        sizes[precision] = sum(f.stat().st_size for f in file.parent.iterdir())
    assert sizes["int8"] < 0.5 * sizes["float32"]
    assert {f.suffix for f in file.parent.iterdir()} <= {ending, ".bin"}
    if format == "onnx":
        session = pytest.importorskip("onnxruntime").InferenceSession(file)
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(None, {"images": images})))
    else:
        openvino = pytest.importorskip("openvino")
        compiled = openvino.Core().compile_model(file, "CPU", OPENVINO_FLOAT32)
        found = {output.get_any_name(): value for output, value in compiled(images).items()}
    wanted = model.predict_on_batch(images)
    difference = np.abs(found["confidence"][:, :5] - wanted["confidence"][:, :5])
    assert 1e-5 < difference.max() < 0.1


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_litert(model, images, tmp_path, precision):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    file = tmp_path / "cells.tflite"
    export_format(model, file, "litert", precision=precision, size=(200, 300))
    run = interpreter.Interpreter(str(file)).get_signature_runner("serving_default")
    found, wanted = run(images=images[:1]), model.predict_on_batch(images[:1])
    if precision == "float32":
        assert_equals_predict(found, wanted)
    else:
        bound = {"float16": 0.02, "int8": 0.1}[precision]
        np.testing.assert_allclose(
            found["confidence"][:, :5], wanted["confidence"][:, :5], atol=bound
        )
        assert file.stat().st_size < {"float16": 5e6, "int8": 4e6}[precision]


def test_what_a_format_cannot_do_is_said(model, tmp_path, capsys):
    with pytest.raises(ValueError, match="onnx is written as float32 or int8"):
        export_format(model, tmp_path / "a.onnx", "onnx", precision="float16")
    with pytest.raises(ValueError, match="calibration"):
        export_format(model, tmp_path / "a.onnx", "onnx", precision="int8")
    with pytest.raises(ValueError, match="calibration"):
        export_format(model, tmp_path / "a.tflite", "litert", precision="int8", calibration=[0])
    with pytest.raises(ValueError, match="empty"):
        export_format(model, tmp_path / "a.onnx", "onnx", precision="int8", calibration=[])
    with pytest.raises(ValueError, match=r"ends with \.tflite"):
        export_format(model, tmp_path / "a.onnx", "litert")
    with pytest.raises(ValueError, match="any size"):
        export_format(model, tmp_path / "a.xml", "openvino", size=(64, 64))
    with pytest.raises(ValueError, match="must be one of"):
        export_format(model, tmp_path / "a.pb", "coreml")
    output = ["--output", str(tmp_path / "a.onnx")]
    arguments = ["export", "--model", "nano_bccd", "--format", "onnx", *output]
    assert cli.main([*arguments, "--max-detections", "5"]) == 2
    assert "--max-detections has no meaning" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_command_line(tmp_path, capsys):
    file = str(tmp_path / "cells.tflite")
    arguments = ["export", "--model", "nano_bccd", "--format", "litert", "--output", file]
    assert cli.main([*arguments, "--size", "64", "96"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Wrote {file}"
    assert cli.main(arguments) == 2
