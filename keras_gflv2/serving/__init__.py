"""Exported detectors: SavedModels for TF Serving, and a client for the server."""

from keras_gflv2.serving.client import ServingClient, ServingError
from keras_gflv2.serving.saved_model import export_saved_model

__all__ = ["ServingClient", "ServingError", "export_saved_model"]
