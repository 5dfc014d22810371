"""A trained detector to a SavedModel in TF Serving's layout, decoding and resizing inside."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_gflv2.annotations import Detector, PathLike
from keras_gflv2.contract import class_names_of
from keras_gflv2.images import MAX_PIXELS

CLASS_NAMES_FILE = "class_names.txt"
CONFIG_FILE = "detector.json"


def export_saved_model(
    model: Detector,
    directory: PathLike,
    *,
    overwrite: bool = False,
    score_threshold: float | None = None,
    nms_iou_threshold: float | None = None,
    max_detections: int | None = None,
    image_size: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> str:
    """Writes a SavedModel that needs neither Keras nor this package to run.

    Signatures; B images, D = `max_detections`, rows after the last detection are -1:

    - `serving_default`, `serving_images`: "images" (B, H, W, 3) uint8 RGB of any H and W ->
      "boxes" (B, D, 4) in the model's `bounding_box_format`, "classes" (B, D) int32, "confidence"
      (B, D), "num_detections" (B,) and, of detectors with distributions, "uncertainties" (B, D, 4)
      of the sides: what `model.predict` gives. `serving_images_float` takes float32 of 0..255.
    - `serving_bytes`: "image_bytes" (B,), files of different sizes (JPEG, PNG, GIF, BMP, WebP) ->
      the same with "boxes", xyxy, and "uncertainties" in pixels of each original image,
      "class_names" (B, D) and "status" (B,): "ok", or why there is no detection: what
      `model.detect` gives. Files are decoded to the pixels that `images.read_image` gives, or have
      a status. Images are resized to the model's `image_size` and run in chunks; a request has at
      most 256 of them.
    - `serving_bytes_options`: as `serving_bytes` with "score_threshold" and "nms_iou_threshold"
      (B,) in the request.
    - `calibration`, of a calibrated detector: "image_bytes" (B,), of any content -> "calibration"
      (B,), the JSON of its table, from which `ServingClient.detect(coverage=0.9)` makes intervals;
      "num_matched" (B,).
    - `raw`: "images" (B, H, W, 3) float32 -> what calling the model gives: "scores" (B, A, C) and
      the raw numbers of the boxes, of a `GFLV2` "box_distributions" (B, A, 4, reg_max + 1).

    Args:
        model: a dense detector, on any backend. With JAX and PyTorch a TensorFlow process writes
            the export.
        directory: the version's folder, `NAME/VERSION` with a whole number VERSION.
        overwrite: whether an existing version may be replaced.
        score_threshold, nms_iou_threshold, max_detections: settings of the export; those of the
            model's `prediction_decoder` if None.
        image_size: (short side, longest long side) to which files are resized; the model's if None.
        max_pixels: larger files are refused, without decoding them.

    Returns:
        Path of the folder.

    Raises:
        FileExistsError: the version exists.
        ValueError: VERSION is not a number: TF Serving would not find it.
    """
    directory = Path(directory)
    if not directory.name.isdigit():
        raise ValueError(
            "`directory` must end with a version number, as in saved_models/cells/1: TF Serving "
            f"looks for such folders. Got {directory}."
        )
    if directory.exists() and not overwrite:
        raise FileExistsError(
            f"{directory} exists. Choose the next version, or pass overwrite=True (--overwrite)."
        )
    settings = {
        "score_threshold": score_threshold,
        "nms_iou_threshold": nms_iou_threshold,
        "max_detections": max_detections,
        "image_size": image_size,
        "max_pixels": max_pixels,
        "preset": model.preset,
    }
    directory.parent.mkdir(parents=True, exist_ok=True)
    # TF Serving takes a folder as soon as it has a number for a name.
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        in_tensorflow(__name__, model, temporary, directory.parent.name, settings)
        temporary.chmod(0o755)
        if directory.exists():
            shutil.rmtree(directory)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return str(directory)


def in_tensorflow(module, model, *arguments):
    """Calls `write(model, *arguments)` of a module: here, or in a process with TensorFlow.

    With another backend the model is saved, and loaded there. The arguments are JSON or paths.
    """
    if keras.backend.backend() == "tensorflow":
        importlib.import_module(module).write(model, *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.keras"
        model.save(file)
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
        script = (
            f"import json, sys, keras; from {module} import write;"
            "write(keras.saving.load_model(sys.argv[1]), *json.loads(sys.argv[2]))"
        )
        command = [sys.executable, "-c", script, file, json.dumps(arguments, default=str)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(
            "The export, which runs in a process of its own with the backend TensorFlow, failed. "
            "A backbone or decoder of your own must be registered with Keras in an installed "
            f"package. It printed:\n{done.stderr[-3000:]}"
        )


def write(model, directory, name, settings):
    """Writes signatures, assets and warm-up requests into an empty folder; needs TensorFlow."""
    directory = Path(directory)
    import tensorflow as tf

    from keras_gflv2.serving.folding import fold_batch_norm
    from keras_gflv2.serving.signatures import Signatures
    from keras_gflv2.serving.warmup import write_warmup

    model = fold_batch_norm(model)
    model.prediction_decoder = _decoder(model, settings)
    model.image_size = tuple(settings["image_size"] or model.image_size)
    functions = {
        endpoint: tf.function(function, input_signature=inputs)
        for endpoint, function, inputs in Signatures(model, settings["max_pixels"]).endpoints()
    }
    # A module of TensorFlow's own: Keras's ExportArchive writes every variable twice.
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    module.functions = functions
    signatures = {"serving_default": functions["serving_images"], **functions}
    tf.saved_model.save(module, str(directory), signatures)
    _write_assets(model, directory / "assets", settings["preset"])
    write_warmup(directory / "assets.extra", name, model.image_size)


def _decoder(model, settings):
    """The model's decoder with the export's settings."""
    names = ("score_threshold", "nms_iou_threshold", "max_detections")
    changes = {name: settings[name] for name in names if settings[name] is not None}
    if not changes:
        return model.prediction_decoder
    config = model.prediction_decoder.get_config()
    unknown = set(changes) - set(config)
    if unknown:
        kind = type(model.prediction_decoder).__name__
        raise ValueError(f"The decoder {kind} has no {sorted(unknown)} to be set at export.")
    return type(model.prediction_decoder).from_config({**config, **changes})


def _write_assets(model, directory, preset):
    """Class names, a line each, and the detector's configuration and origin."""
    directory.mkdir(exist_ok=True)
    names = class_names_of(model)
    (directory / CLASS_NAMES_FILE).write_text("\n".join(names) + "\n", encoding="utf-8")
    decoder = model.prediction_decoder.get_config()
    record = {
        "preset": preset,
        "detector": type(model).__name__,
        "num_classes": model.num_classes,
        "bounding_box_format": model.bounding_box_format,
        "image_size": list(model.image_size),
        "representation": keras.saving.serialize_keras_object(model.representation),
        "prediction_decoder": {k: v for k, v in decoder.items() if np.isscalar(v)},
        "parameters": model.count_params(),
        "calibration": model.calibration and model.calibration.get_config(),
    }
    (directory / CONFIG_FILE).write_text(json.dumps(record, indent=2, default=str) + "\n")
