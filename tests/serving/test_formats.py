"""Exports to other runtimes, run in those runtimes: the detections of `predict`."""

from pathlib import Path

import keras
import numpy as np
import pytest
from common import assert_same_detections, small_model

from keras_gflv2 import cli
from keras_gflv2.images import read_image, resize_image
from keras_gflv2.serving import export_format, load_openvino, read_calibration
from keras_gflv2.serving.formats import OPENVINO_FLOAT32

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports run under TensorFlow on every backend"
)


KEYS = ("boxes", "classes", "confidence", "uncertainties")


@pytest.fixture(scope="module")
def images(pictures):
    """Two pictures of one size, not a multiple of 32."""
    # Both have objects: nothing found on both sides would prove nothing.
    resized = [resize_image(read_image(p), (200, 300)) for p in pictures[:2]]
    return np.stack(resized).astype("float32")


def assert_equals_predict(found, wanted):
    """Also where 100 detections are full, and at the threshold of the decoder.

    Uncertainties to a thousandth of a pixel.
    """
    assert set(found) == set(wanted)
    assert (wanted["num_detections"] > 0).all()
    np.testing.assert_allclose(found["num_detections"], wanted["num_detections"], atol=1)
    for row, confidence in enumerate(wanted["confidence"]):
        sides = [{key: side[key][row] for key in KEYS} for side in (found, wanted)]
        threshold = max(confidence.min(), 0.05)
        assert_same_detections(*sides, threshold=threshold, uncertainty=1e-3)


def assert_uncertainties_near(found, wanted):
    """Of fewer bits: most to a tenth, whichever detection comes first; padding is -1."""
    present = [side["classes"] >= 0 for side in (found, wanted)]
    for side, here in zip((found, wanted), present):
        assert (side["uncertainties"][~here] == -1).all() and (
            side["uncertainties"][here] > 0
        ).all()
    middle = [np.median(s["uncertainties"][h], axis=0) for s, h in zip((found, wanted), present)]
    np.testing.assert_allclose(*middle, rtol=0.1)


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    file = export_format(model, folder / "cells.onnx", "onnx")
    assert [p.name for p in folder.iterdir()] == ["cells.onnx"]
    return file


@pytest.fixture(scope="module")
def openvino_file(model, tmp_path_factory):
    return export_format(model, tmp_path_factory.mktemp("openvino") / "cells.xml", "openvino")


def test_onnx_runtime(onnx_file, model, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx_file)
    names = [output.name for output in session.get_outputs()]
    assert names == ["boxes", "classes", "confidence", "num_detections", "uncertainties"]
    for batch in (images, images[:1, :97, :130]):
        found = dict(zip(names, session.run(None, {"images": batch})))
        assert_equals_predict(found, model.predict_on_batch(batch))


def run_openvino(file, batch):
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(file, "CPU", OPENVINO_FLOAT32)
    return {output.get_any_name(): value for output, value in compiled(batch).items()}


def test_openvino(openvino_file, model, images):
    for batch in (images, images[:1, :97, :130]):
        assert_equals_predict(run_openvino(openvino_file, batch), model.predict_on_batch(batch))


@pytest.mark.slow  # OpenVINO itself rounds the weights: one argument of its saving.
def test_openvino_in_half_precision(openvino_file, model, images, tmp_path):
    file = export_format(model, tmp_path / "cells.xml", "openvino", precision="float16")
    assert size_of(file) < 0.8 * size_of(openvino_file)
    found, wanted = run_openvino(file, images), model.predict_on_batch(images)
    first = slice(0, int(min(found["num_detections"].min(), 5)))
    assert first.stop > 0
    np.testing.assert_allclose(
        found["confidence"][:, first], wanted["confidence"][:, first], atol=0.02
    )
    assert_uncertainties_near(found, wanted)


@pytest.mark.slow
def test_openvino_in_bfloat16(openvino_file, model, images, tmp_path):
    """The file is half as large, and computes in what it was exported for."""
    pytest.importorskip("openvino")
    file = export_format(model, tmp_path / "cells.xml", "openvino", precision="bf16")
    assert size_of(file) < 0.8 * size_of(openvino_file)
    compiled = load_openvino(file)
    assert "bfloat16" in str(compiled.get_property("INFERENCE_PRECISION_HINT"))
    found = {output.get_any_name(): value for output, value in compiled(images).items()}
    wanted = model.predict_on_batch(images)
    np.testing.assert_allclose(found["confidence"][:, :5], wanted["confidence"][:, :5], atol=0.05)
    assert_uncertainties_near(found, wanted)
    assert "float32" in str(load_openvino(openvino_file).get_property("INFERENCE_PRECISION_HINT"))


def test_files_have_the_calibration(onnx_file, openvino_file, exported, model, tmp_path):
    table = model.calibration.get_config()
    for file in (onnx_file, openvino_file, exported):
        assert read_calibration(file) == table
    uncalibrated = export_format(small_model(), tmp_path / "cells.onnx", "onnx")
    assert read_calibration(uncalibrated) is None


def test_group_norms_in_onnx_are_operators(onnx_file, model):
    """One for each normalization and level; Keras's own form takes a dozen slow ones."""
    onnx = pytest.importorskip("onnx")
    exported = onnx.load(onnx_file)
    domains = [used.domain for used in exported.opset_import]
    assert len(set(domains)) == len(domains)  # otherwise onnxruntime cannot quantize it
    kinds = [node.op_type for node in exported.graph.node]
    assert kinds.count("InstanceNormalization") == 2 * model.head.depth * len(model.head.levels)
    assert kinds.count("NonMaxSuppression") == 1 and "Loop" not in kinds


def test_group_norms_in_openvino_are_operators(openvino_file, model):
    openvino = pytest.importorskip("openvino")
    kinds = [node.get_type_name() for node in openvino.Core().read_model(openvino_file).get_ops()]
    assert kinds.count("GroupNormalization") == 2 * model.head.depth * len(model.head.levels)
    assert kinds.count("NonMaxSuppression") == 1 and "Loop" not in kinds


def size_of(file):
    """Bytes of a file and of those beside it."""
    return sum(part.stat().st_size for part in Path(file).parent.iterdir())


@pytest.mark.slow  # Calibration takes half a minute; what is refused without a set is tested below.
@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_int8_with_a_calibration_set(model, images, tmp_path, format, request):
    ending = {"onnx": ".onnx", "openvino": ".xml"}[format]
    file = tmp_path / f"cells{ending}"
    export_format(model, file, format, precision="int8", calibration=[images, images[:1]])
    assert size_of(file) < 0.5 * size_of(request.getfixturevalue(f"{format}_file"))
    assert {f.suffix for f in tmp_path.iterdir()} <= {ending, ".bin"}
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
    assert_uncertainties_near(found, wanted)


def run_litert(file, images):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    return interpreter.Interpreter(str(file)).get_signature_runner("serving_default")(images=images)


def test_litert_by_the_command_line(model, images, tmp_path, capsys):
    file = str(tmp_path / "cells.tflite")
    arguments = ["export", "--model", "nano_bccd", "--format", "litert", "--output", file]
    assert cli.main([*arguments, "--size", "200", "300"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Wrote {file}"
    assert cli.main(arguments) == 2
    assert_equals_predict(run_litert(file, images[:1]), model.predict_on_batch(images[:1]))
    assert read_calibration(file) == model.calibration.get_config()


@pytest.mark.parametrize(
    "precision, score, size",
    [pytest.param("float16", 0.02, 5e6, marks=pytest.mark.slow), ("int8", 0.1, 4e6)],
)
def test_litert_of_fewer_bits(model, images, tmp_path, precision, score, size):
    file = tmp_path / "cells.tflite"
    export_format(model, file, "litert", precision=precision, size=(200, 300))
    found, wanted = run_litert(file, images[:1]), model.predict_on_batch(images[:1])
    np.testing.assert_allclose(found["confidence"][:, :5], wanted["confidence"][:, :5], atol=score)
    assert_uncertainties_near(found, wanted)
    assert file.stat().st_size < size


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
