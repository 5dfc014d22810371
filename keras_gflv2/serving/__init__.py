"""Exported detectors: for TF Serving, with a client for it, and for other runtimes."""

from keras_gflv2.serving.client import ServingClient, ServingError
from keras_gflv2.serving.formats import export_format
from keras_gflv2.serving.saved_model import export_saved_model

__all__ = ["ServingClient", "ServingError", "export_format", "export_saved_model"]
