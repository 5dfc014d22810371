"""`keras-gflv2 export`: a trained detector to TF Serving, ONNX, OpenVINO or LiteRT."""

import pathlib

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_verbose,
    flag,
    positive_int,
    sides,
)
from keras_gflv2.cli.sources import load_data, load_model

NAME = "export"
HELP = "write a SavedModel that takes image files and returns boxes, or ONNX, OpenVINO, LiteRT"
SAVED_MODEL = "saved_model"
# Arguments that only one of the two kinds of export has.
SERVING_ALONE = ("score_threshold", "nms_iou_threshold", "max_detections", "image_size")
FORMATS_ALONE = ("precision", "size", "calibration")


def add_arguments(parser):
    add_model(parser)
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="NAME/VERSION, the folder of a SavedModel, VERSION a whole number; else a file that "
        "ends with .onnx, .xml (OpenVINO) or .tflite (LiteRT)",
    )
    parser.add_argument(
        "--format", choices=(SAVED_MODEL, "onnx", "openvino", "litert"), default=SAVED_MODEL
    )
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "bfloat16", "bf16", "int8"),
        help="of the stored weights: float16 for OpenVINO and LiteRT, bfloat16 or bf16 for "
        "OpenVINO, int8 for all",
    )
    parser.add_argument(
        "--data",
        "--calibration",
        dest="calibration",
        metavar="DATA",
        help="images from which int8 in ONNX and OpenVINO takes its ranges, as in train --data",
    )
    parser.add_argument(
        "--size",
        type=sides,
        nargs="+",
        metavar="HxW",
        help="of LiteRT's input, which is fixed; HEIGHT WIDTH is understood, too",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing version")
    parser.add_argument(
        "--score-threshold", type=float, help="if not given, that of the model's decoder (0.05)"
    )
    parser.add_argument(
        "--nms-iou-threshold", type=float, help="if not given, that of the model's decoder (0.6)"
    )
    parser.add_argument(
        "--max-detections", type=positive_int, help="if not given, that of the decoder (100)"
    )
    add_image_size(parser)
    add_verbose(parser)


def run(arguments):
    """Exports and says how to use the result."""
    arguments.when_interrupted = "; nothing was written"
    if arguments.format == SAVED_MODEL:
        _refuse(arguments, FORMATS_ALONE)
        _export_saved_model(arguments)
    else:
        _refuse(arguments, SERVING_ALONE)
        _export_format(arguments)


def _refuse(arguments, names):
    for name in names:
        if getattr(arguments, name) is not None:
            raise ValueError(f"{flag(name)} has no meaning with --format {arguments.format}.")


def _export_saved_model(arguments):
    from keras_gflv2.serving import export_saved_model

    model = load_model(arguments.model)
    _say(arguments, "Tracing the detector and writing the SavedModel.")
    directory = export_saved_model(
        model,
        arguments.output,
        overwrite=arguments.overwrite,
        **{name: getattr(arguments, name) for name in SERVING_ALONE},
    )
    served = pathlib.Path(directory).parent
    print(
        f"tensorflow_model_server --port=8500 --rest_api_port=8501 --model_name={served.name} "
        f"--model_base_path={served.resolve()}\n"
        f"keras-gflv2 predict --server http://localhost:8501/{served.name} --output pictures "
        f"IMAGE\nWrote {directory}"
    )


def _export_format(arguments):
    from keras_gflv2.serving import export_format
    from keras_gflv2.serving.formats import OPENVINO_FLOAT32, check_export

    precision, size = arguments.precision or "float32", _size(arguments.size)
    check_export(arguments.output, arguments.format, precision, size, bool(arguments.calibration))
    if pathlib.Path(arguments.output).exists() and not arguments.overwrite:
        raise FileExistsError(f"{arguments.output} exists. Pass --overwrite to replace it.")
    model, calibration = load_model(arguments.model), None
    if arguments.calibration:
        calibration = load_data(arguments.calibration, batch_size=1, image_size=model.image_size)
    _say(arguments, f"Converting the detector to {arguments.format}, {precision}.")
    file = export_format(
        model,
        arguments.output,
        arguments.format,
        precision=precision,
        size=size,
        calibration=calibration,
    )
    if arguments.format == "openvino":
        print(
            f"compiled = keras_gflv2.serving.load_openvino({file!r})  # in {precision}, or give "
            f"compile_model {OPENVINO_FLOAT32}: OpenVINO's default may be bfloat16"
        )
    print(f"Wrote {file}")


def _say(arguments, text):
    if arguments.verbose:
        print(text, flush=True)


def _size(parts):
    """Height and width of ["240x320"] or ["240", "320"], as `sides` gives them; None of None."""
    size = tuple(side for part in parts or () for side in part)
    if len(size) not in (0, 2):
        raise ValueError(f"--size must be like 240x320, got {' '.join(map(str, size))}.")
    return size or None
