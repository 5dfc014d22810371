"""Exported detectors: for TF Serving, with a client for it, and for other runtimes."""

from typing import TYPE_CHECKING

from keras_gflv2.serving.client import ServingClient, ServingError

if TYPE_CHECKING:
    from keras_gflv2.serving.calibrations import read_calibration
    from keras_gflv2.serving.formats import export_format, load_openvino
    from keras_gflv2.serving.saved_model import export_saved_model

__all__ = [
    "ServingClient",
    "ServingError",
    "export_format",
    "export_saved_model",
    "load_openvino",
    "read_calibration",
]


def __getattr__(name):  # at first use: the client needs neither Keras nor TensorFlow
    if name == "export_format":
        from keras_gflv2.serving.formats import export_format

        return export_format
    if name == "read_calibration":
        from keras_gflv2.serving.calibrations import read_calibration

        return read_calibration
    if name == "load_openvino":
        from keras_gflv2.serving.formats import load_openvino

        return load_openvino
    if name == "export_saved_model":
        from keras_gflv2.serving.saved_model import export_saved_model

        return export_saved_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
