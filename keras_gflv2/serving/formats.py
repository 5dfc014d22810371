"""A trained detector to ONNX, OpenVINO or LiteRT: pixels in, the detections of `predict` out."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from keras_gflv2.annotations import Dataset, Detector, PathLike
from keras_gflv2.serving import quantization
from keras_gflv2.serving.calibrations import write_calibration
from keras_gflv2.serving.saved_model import in_tensorflow

# Format: (ending of its file, precisions, the first is the default, what converts into it).
FORMATS = {
    "onnx": (".onnx", ("float32", "int8"), "tf2onnx"),
    "openvino": (".xml", ("float32", "float16", "bfloat16", "int8"), "openvino"),
    "litert": (".tflite", ("float32", "float16", "int8"), None),
}
ALIASES = {"bf16": "bfloat16"}
# For `openvino.Core().compile_model(file, "CPU", OPENVINO_FLOAT32)`, see `load_openvino`.
OPENVINO_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
# What int8 with a calibration set needs, and what quantizes.
QUANTIZERS = {
    "onnx": ("onnxruntime", quantization.quantize_onnx),
    "openvino": ("nncf", quantization.quantize_openvino),
}
CALIBRATION_BATCHES = 100
WRITERS = "keras_gflv2.serving.writers"  # needs TensorFlow


def export_format(
    model: Detector,
    file: PathLike,
    format: str,
    *,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    calibration: Dataset = None,
) -> str:
    """Writes a detector for another runtime, with decoding and NMS inside.

    Input "images" (B, H, W, 3) float32 RGB in 0..255; outputs as of `model.predict`: "boxes",
    "classes", "confidence", "num_detections" and, of detectors with distributions, "uncertainties".
    ONNX and OpenVINO take any B, H and W. LiteRT has no operation for some of what changing sizes
    need: B is 1, H and W are fixed.

    NMS is the operator of the runtime, with the results of the package's own. The decoder must be a
    `PredictionDecoder` with an `nms_iou_threshold` of at least 0 and below 1, without `box_voting`;
    any other is exported as it is computed in TensorFlow, which works and is slower.

    Compile OpenVINO files by `load_openvino`, or with `OPENVINO_FLOAT32`: the default of OpenVINO
    on processors that have bfloat16 is to compute in that, which moves boxes by half a pixel.

    Args:
        model: a dense detector, on any backend.
        file: path to write: .onnx; .xml, with the weights beside it in .bin; .tflite.
        format: "onnx", "openvino" or "litert".
        precision: "float32"; "float16" stores weights in half the size (OpenVINO, LiteRT);
            "bfloat16" or "bf16" does so too, and computes in it if the file is compiled by
            `load_openvino` (OpenVINO); "int8" stores them in a quarter: convolutions run in int8
            with ranges from a calibration set (ONNX, OpenVINO), or with ranges taken while it runs
            (LiteRT).
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
    file, precision = Path(file), ALIASES.get(precision, precision)
    check_export(file, format, precision, size, calibration is not None)
    calibrates = calibration is not None
    if calibrates:
        quantize = QUANTIZERS[format][1]
        batches = quantization.calibration_images(calibration, CALIBRATION_BATCHES)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        temporary = Path(folder) / "written" / file.name
        temporary.parent.mkdir()
        if calibrates:
            source = Path(folder) / f"float32{file.suffix}"
            in_tensorflow(WRITERS, model, source, format, "float32", size)
            quantize(source, temporary, batches)
        else:
            in_tensorflow(WRITERS, model, temporary, format, precision, size)
        if model.calibration is not None:
            write_calibration(temporary, model.calibration)
        for written in sorted(temporary.parent.iterdir()):
            shutil.move(written, file.parent / written.name)
    return str(file)


def check_export(
    file: PathLike,
    format: str,
    precision: str = "float32",
    size: tuple[int, int] | None = None,
    calibrates: bool = False,
) -> None:
    """Raises what `export_format` raises of its arguments, before there is a model.

    Args:
        file, format, precision, size: as there.
        calibrates: whether there is a calibration set.
    """
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {list(FORMATS)}, got {format!r}.")
    ending, precisions, module = FORMATS[format]
    if Path(file).suffix != ending:
        raise ValueError(f"A file of the format {format} ends with {ending}, got {file}.")
    precision = ALIASES.get(precision, precision)
    if precision not in precisions:
        raise ValueError(f"{format} is written as {' or '.join(precisions)}, not {precision!r}.")
    if module:
        _require(module, format)
    if size is not None and format != "litert":
        raise ValueError(f"`size` is for LiteRT alone: {format} takes images of any size.")
    needs_calibration = precision == "int8" and format in QUANTIZERS
    if needs_calibration != calibrates:
        raise ValueError(
            "`calibration` (--data), images like those to come, is needed for int8 in "
            f"{' and '.join(QUANTIZERS)}, and for nothing else."
        )
    if needs_calibration:
        _require(QUANTIZERS[format][0], format)


def load_openvino(file: PathLike, device: str = "CPU") -> Any:
    """Compiles an exported OpenVINO file for the precision that it was exported in.

    The file says so where OpenVINO keeps its runtime options, which OpenVINO (2026.4) does not
    follow by itself. Processors without bfloat16 compute float32 instead of it.

    Args:
        file: path of the .xml.
        device: of OpenVINO.

    Returns:
        `openvino.CompiledModel`.
    """
    _require("openvino", "openvino")
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    name = "INFERENCE_PRECISION_HINT"
    return core.compile_model(
        model, device, {name: model.get_rt_info(["runtime_options", name]).value}
    )


def _require(module, format):
    try:
        __import__(module)
    except ImportError as error:
        raise ImportError(
            f"The format {format} needs {module}: pip install 'keras-gflv2[{format}]'."
        ) from error
