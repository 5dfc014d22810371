"""Settings of every test run, and what is built once for all tests of it (see `common.py`)."""

import os

# Tests compile thousands of small programs once each: XLA need not optimise them.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
from common import random_batch, small_model

import keras_gflv2

collect_ignore = []
if keras.backend.backend() != "tensorflow":
    # Files and tf.data pipelines do not touch the backend: one suite runs them.
    collect_ignore += ["data", "checkpoints", "test_images.py"]
    collect_ignore += ["test_visualization.py"]


@pytest.fixture(scope="session")
def trained():
    """A small detector and the batch that it has learnt by heart. Not to be changed."""
    model = small_model(class_names=["a", "b", "c"], image_size=(96, 128))
    model.compile(keras.optimizers.Adam(3e-3))
    batch = random_batch()
    model.fit(batch["images"], batch["bounding_boxes"], epochs=40, batch_size=2, verbose=0)
    return model, batch


@pytest.fixture(scope="session")
def compiled():
    """A small detector that runs step by step: quicker than a graph that would run once."""
    model = small_model()
    # JAX is slower untraced.
    model.compile("adam", run_eagerly=keras.backend.backend() == "tensorflow")
    return model


@pytest.fixture(scope="session")
def nano():
    """The detector that comes with the package. Not to be changed."""
    return keras_gflv2.GFLV2.from_preset("nano_bccd")
