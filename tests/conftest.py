"""Settings of every test run."""

import os

# Tests compile thousands of small programs once each: XLA need not optimise them.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

collect_ignore = []
if keras.backend.backend() != "tensorflow":
    # Files and tf.data pipelines do not touch the backend: one suite runs them.
    collect_ignore += ["data", "checkpoints", "test_images.py"]
    collect_ignore += ["test_visualization.py"]
