"""Files of version 0.1 load, give what they gave, and their training goes on.

`golden/version_0_1` was written by version 0.1: a GFLV2 and a GFLV1, two training steps old, what
they gave then (`expected.npz`), and what a third step made of them.
"""

import h5py
import keras
import numpy as np
import pytest
from common import GOLDEN, assert_same_detections, to_numpy

import keras_gflv2
from keras_gflv2.models.presets import EMBEDDED_DIRECTORY

FILES = GOLDEN / "version_0_1"
TERMS = ("classification_loss", "box_loss", "distribution_loss", "loss")


def images(seed):
    return np.random.default_rng(seed).integers(0, 256, (2, 64, 64, 3)).astype("float32")


# The batch of the third step.
TARGETS = {
    "boxes": np.float32(
        [[[4, 6, 40, 44], [20, 10, 60, 62], [0] * 4], [[8, 30, 52, 60], [0] * 4, [0] * 4]]
    ),
    "classes": np.int32([[0, 2, -1], [1, -1, -1]]),
}


@pytest.fixture(params=["gflv2", "gflv1"])
def recorded(request):
    """A detector from a file of version 0.1, and {what: what it gave}."""
    with np.load(FILES / "expected.npz") as arrays:
        prefix = f"{request.param}_"
        expected = {k.removeprefix(prefix): arrays[k] for k in arrays if k.startswith(prefix)}
    return keras.saving.load_model(FILES / f"{request.param}.keras"), expected


def test_a_file_gives_what_it_gave(recorded):
    model, expected = recorded
    assert isinstance(model, keras_gflv2.GFLV2)
    outputs = to_numpy(model(images(2)))
    assert set(outputs) <= set(expected)
    for name, value in outputs.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    predicted = {k.removeprefix("predict_"): v for k, v in expected.items() if "predict_" in k}
    assert_same_detections(model.predict(images(2), verbose=0), predicted, 1e-4, pixels=0.02)


def test_its_training_goes_on_from_the_optimizers_state(recorded):
    model, expected = recorded
    assert int(model.optimizer.iterations) == 2
    history = model.fit(
        images(3), TARGETS, batch_size=2, initial_epoch=2, epochs=3, shuffle=False, verbose=0
    ).history
    for name in TERMS:
        np.testing.assert_allclose(history[name], expected[f"step_{name}"], rtol=1e-4)
    for variables, name in (
        (model.weights, "weights_after"),
        (model.optimizer.variables, "optimizer_after"),
    ):
        norms = [np.linalg.norm(to_numpy(v).astype("float64")) for v in variables]
        np.testing.assert_allclose(norms, expected[name], rtol=1e-3, atol=1e-5, err_msg=name)


# === Weight files ===


def weights_of(path):
    """Lines "path shape" of the weights in a file."""
    lines = []
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                lines.append(f"{name} {list(item.shape)}")
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return lines


def test_a_new_detector_saves_the_paths_of_version_0_1(tmp_path):
    listed = (FILES / "nano_bccd_weights.txt").read_text().splitlines()
    assert weights_of(EMBEDDED_DIRECTORY / "nano_bccd" / "model.weights.h5") == listed
    model = keras_gflv2.GFLV2.from_preset("nano_bccd", load_weights=False)
    model.save_weights(tmp_path / "new.weights.h5")
    assert weights_of(tmp_path / "new.weights.h5") == listed
