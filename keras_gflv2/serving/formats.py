"""A trained detector to ONNX, OpenVINO or LiteRT: pixels in, the detections of `predict` out."""

import shutil
import tempfile
from pathlib import Path

from keras_gflv2.grid import padded
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.serving import quantization
from keras_gflv2.serving.saved_model import in_tensorflow

# Format: (ending of its file, precisions, the first is the default, what converts into it).
FORMATS = {
    "onnx": (".onnx", ("float32", "int8"), "tf2onnx"),
    "openvino": (".xml", ("float32", "float16", "int8"), "openvino"),
    "litert": (".tflite", ("float32", "float16", "int8"), None),
}
ONNX_OPSET = 18
# For `openvino.Core().compile_model(file, "CPU", OPENVINO_FLOAT32)`. The same option in a file's
# `rt_info` is not followed (OpenVINO 2026.4).
OPENVINO_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
# What int8 with a calibration set needs, and what quantizes.
QUANTIZERS = {
    "onnx": ("onnxruntime", quantization.quantize_onnx),
    "openvino": ("nncf", quantization.quantize_openvino),
}
CALIBRATION_BATCHES = 100


def export_format(model, file, format, *, precision="float32", size=None, calibration=None):
    """Writes a detector for another runtime, with decoding and NMS inside.

    Input "images" (B, H, W, 3) float32 RGB in 0..255; outputs as of `model.predict`: "boxes",
    "classes", "confidence", "num_detections". ONNX and OpenVINO take any B, H and W. LiteRT has no
    operation for some of what changing sizes need: B is 1, H and W are fixed. Compile
    OpenVINO files with `OPENVINO_FLOAT32`: its default on processors that have bfloat16 is to
    compute in that, which moves boxes by half a pixel; a file cannot say otherwise.

    Args:
        model: a dense detector, on any backend.
        file: path to write: .onnx; .xml, with the weights beside it in .bin; .tflite.
        format: "onnx", "openvino" or "litert".
        precision: "float32"; "float16" stores weights in half the size (OpenVINO, LiteRT); "int8"
            stores them in a quarter: convolutions run in int8 with ranges from a calibration set
            (ONNX, OpenVINO), or with ranges taken while it runs (LiteRT).
        size: (height, width) of LiteRT's input; `model.image_size` on multiples of 32 if None.
        calibration: for int8 in ONNX and OpenVINO, a dataset of this package or batches of images
            (B, H, W, 3) like those to come. The first 100 batches are used.

    Returns:
        Path of the file.

    Raises:
        ValueError: the format does not have the precision, int8 has no calibration set, or the
            file has another ending.
        ImportError: what to install.
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {list(FORMATS)}, got {format!r}.")
    ending, precisions, module = FORMATS[format]
    file = Path(file)
    if file.suffix != ending:
        raise ValueError(f"A file of the format {format} ends with {ending}, got {file}.")
    if precision not in precisions:
        raise ValueError(f"{format} is written as {' or '.join(precisions)}, not {precision!r}.")
    if module:
        _require(module, format)
    if size is not None and format != "litert":
        raise ValueError(f"`size` is for LiteRT alone: {format} takes images of any size.")
    calibrates = precision == "int8" and format in QUANTIZERS
    if calibrates != (calibration is not None):
        raise ValueError(
            "`calibration` (--calibration), images like those to come, is needed for int8 in "
            f"{' and '.join(QUANTIZERS)}, and for nothing else."
        )
    if calibrates:
        quantizer, quantize = QUANTIZERS[format]
        _require(quantizer, format)
        batches = quantization.calibration_images(calibration, CALIBRATION_BATCHES)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        temporary = Path(folder) / "written" / file.name
        temporary.parent.mkdir()
        if calibrates:
            source = Path(folder) / f"float32{ending}"
            in_tensorflow(__name__, model, source, format, "float32", size)
            quantize(source, temporary, batches)
        else:
            in_tensorflow(__name__, model, temporary, format, precision, size)
        for written in sorted(temporary.parent.iterdir()):
            shutil.move(written, file.parent / written.name)
    return str(file)


def _require(module, format):
    try:
        __import__(module)
    except ImportError as error:
        raise ImportError(
            f"The format {format} needs {module}: pip install 'keras-gflv2[{format}]'."
        ) from error


def write(model, file, format, precision, size):
    """Writes the file; needs TensorFlow as the backend."""
    import tensorflow as tf

    from keras_gflv2.serving.folding import fold_batch_norm
    from keras_gflv2.serving.signatures import Signatures

    model = fold_batch_norm(model)
    if isinstance(model.prediction_decoder, PredictionDecoder):
        decoder = model.prediction_decoder  # that of the user's model too, which keeps it
        model.prediction_decoder = type(decoder).from_config(decoder.get_config())
        model.prediction_decoder.portable = True
    shape = (None, None, None, 3)
    if format == "litert":
        size = size or [padded(side) for side in model.image_size]
        shape = (1, *size, 3)
    signature = [tf.TensorSpec(shape, tf.float32, "images")]
    function = tf.function(Signatures(model, None).images, input_signature=signature)
    if format == "onnx":
        import tf2onnx

        tf2onnx.convert.from_function(
            function, input_signature=signature, opset=ONNX_OPSET, output_path=str(file)
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        module = tf.Module()
        module.weights = [variable.value for variable in model.variables]
        tf.saved_model.save(module, folder, {"serving_default": function})
        if format == "openvino":
            _write_openvino(folder, file, precision)
        else:
            Path(file).write_bytes(_litert(folder, precision))


def _write_openvino(folder, file, precision):
    import openvino

    converted = openvino.convert_model(folder)
    openvino.save_model(converted, file, compress_to_fp16=precision == "float16")


def _litert(folder, precision):
    """Bytes of a LiteRT model with one signature, `serving_default`."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()
