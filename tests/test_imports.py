"""What is imported when: nothing heavy before it is needed, every class before Keras loads one."""

import keras
import numpy as np
import pytest
from common import random_batch, small_model
from fresh_process import imported, run_python

import keras_gflv2
from keras_gflv2 import cli

HEAVY = {"keras", "tensorflow", "jax", "torch", "numpy", "PIL", "h5py", "matplotlib", "pycocotools"}


@pytest.mark.parametrize("command", ["", *(command.NAME for command in cli.COMMANDS)])
def test_help_imports_nothing_heavy(command):
    assert not imported("-m", "keras_gflv2.cli", *command.split(), "--help") & HEAVY


def test_a_client_needs_neither_keras_nor_tensorflow():
    needed = {"numpy", "PIL"}
    script = "from keras_gflv2.serving import ServingClient; import keras_gflv2.visualization"
    assert imported("-c", script) & HEAVY == needed


def test_the_public_names_are_there():
    assert set(keras_gflv2.__all__) <= set(dir(keras_gflv2))
    for name in keras_gflv2.__all__:
        assert getattr(keras_gflv2, name) is not None
    assert keras_gflv2.models.GFLV2 is keras_gflv2.GFLV2
    with pytest.raises(AttributeError, match="GFLV3"):
        _ = keras_gflv2.GFLV3


# `import keras_gflv2` comes before the backend is chosen and before Keras.
LOAD = """
import os, sys
import keras_gflv2
assert "keras" not in sys.modules
os.environ["KERAS_BACKEND"] = sys.argv[3]
import keras, numpy
assert keras.backend.backend() == sys.argv[3]
model = keras.saving.load_model(sys.argv[1])
assert model.optimizer.iterations == 2
scores = model(numpy.load(sys.argv[2]))["scores"]
model.predict_on_batch(numpy.load(sys.argv[2]))
numpy.save(sys.argv[2], keras.ops.convert_to_numpy(scores))
# It would take 400 MB and two seconds on other backends.
assert sys.argv[3] == "tensorflow" or "tensorflow" not in sys.modules
"""


def test_a_fresh_process_loads_a_compiled_detector(tmp_path):
    model, batch = small_model(), random_batch()
    model.compile(recipe="finetune")
    for _ in range(2):
        model.train_on_batch(batch["images"], batch["bounding_boxes"])
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "array.npy", batch["images"])
    files = (tmp_path / "model.keras", tmp_path / "array.npy", keras.backend.backend())
    run_python("-c", LOAD, *files, backend=False)
    expected = keras.ops.convert_to_numpy(model(batch["images"])["scores"])
    np.testing.assert_allclose(np.load(tmp_path / "array.npy"), expected, atol=1e-6)


# For every folder and module of the package: imports it first, before Keras.
IMPORT_FIRST = """
import importlib, pkgutil, sys
import keras
from keras_gflv2 import models
registered = keras.saving.get_custom_objects()
expected = {name for name in registered if name.startswith("keras_gflv2>")}
assert len(expected) > 40

def forget(name):
    return name == "keras" or name.startswith("keras_gflv2")

for module in pkgutil.iter_modules(sys.modules["keras_gflv2"].__path__, "keras_gflv2."):
    module = module.name
    for name in list(filter(forget, sys.modules)):
        del sys.modules[name]
    registered.clear()
    importlib.import_module(module)
    assert "keras" not in sys.modules or expected <= set(registered), module
    import keras
    assert expected <= set(registered), module
"""


def test_all_classes_are_registered_whatever_is_imported_first():
    run_python("-c", IMPORT_FIRST)
