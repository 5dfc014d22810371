"""Settings of every test run, and what is built once for all tests of it (see `common.py`)."""

import os
import shutil
from pathlib import Path

import pytest

# Tests compile thousands of small programs once each: XLA need not optimise them.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TESTS = Path(__file__).parent
# JAX compiles the same program for each of many equal models: once is enough, for later runs too.
# Each process of pytest has its own folder, for JAX does not write files whole or not at all.
COMPILED = TESTS.parent / ".pytest_cache" / "jax"
COMPILED_BYTES = 2**30  # JAX's own limit would look at all files for each that it writes
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    COMPILED / os.environ.get("PYTEST_XDIST_WORKER", "alone")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Files and tf.data pipelines do not touch the backend: the suite on TensorFlow runs them.
WITHOUT_BACKEND = {"data", "checkpoints", "inputs", "reproduction", "test_common.py"}
WITHOUT_BACKEND |= {"test_images.py", "test_structure.py", "test_tiles.py"}
WITHOUT_BACKEND |= {"test_visualization.py", "test_speed_tables.py"}
WITHOUT_BACKEND |= {"test_walks.py", "test_notebooks.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """With pytest-xdist folders run in two processes: most of a test is one thread of Python."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # this is one of the two
        return
    if sum(file.stat().st_size for file in COMPILED.glob("*/*")) > COMPILED_BYTES:
        shutil.rmtree(COMPILED)
    if getattr(config.option, "numprocesses", 0) is not None or config.option.usepdb:
        return
    if any(Path(argument).is_dir() for argument in config.args):
        config.option.numprocesses, config.option.dist = 2, "loadfile"
        # Files in their own order: those with few tests, which are long, would come last.
        config.option.loadscopereorder = False
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            os.environ.setdefault(name, "1")


def pytest_ignore_collect(collection_path):
    import keras

    if keras.backend.backend() != "tensorflow":
        first = (*collection_path.relative_to(TESTS).parts, "")[0]
        return True if first in WITHOUT_BACKEND else None


# Imports are in the fixtures: the process that only hands out tests needs none of them.


@pytest.fixture(scope="session")
def trained():
    """A small detector and the batch that it has learnt by heart. Not to be changed."""
    import keras
    from common import random_batch, small_model

    model = small_model(class_names=["a", "b", "c"], image_size=(96, 128))
    model.compile(keras.optimizers.Adam(3e-3))
    batch = random_batch()
    model.fit(batch["images"], batch["bounding_boxes"], epochs=40, batch_size=2, verbose=0)
    return model, batch


@pytest.fixture(scope="session")
def compiled():
    """A small detector that runs step by step: quicker than a graph that would run once."""
    import keras
    from common import small_model

    model = small_model()
    # JAX is slower untraced.
    model.compile("adam", run_eagerly=keras.backend.backend() == "tensorflow")
    return model


@pytest.fixture(scope="module")
def without_graphs():
    """A few steps of a tiny model are faster without the graph that TensorFlow makes of them."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def nano():
    """The detector that comes with the package. Not to be changed."""
    import keras_gflv2

    return keras_gflv2.GFLV2.from_preset("nano_bccd")


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window; see browsing.py."""
    from browsing import open_browser

    opened = open_browser()
    yield opened
    opened.quit()
