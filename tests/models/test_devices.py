"""Several devices follow one, and three backends give the same detections."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from common import random_batch, small_model, two_free_ports

SCRIPT = Path(__file__).parent / "device_script.py"


def run(mode, *arguments, backend=None, devices=2):
    """One process with its own backend and logical devices; returns what it printed as JSON."""
    return result_of(start(mode, *arguments, backend=backend, devices=devices))


def start(mode, *arguments, backend=None, devices=2):
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend or keras.backend.backend(),
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), *sys.path]),
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + f" --xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), mode, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def result_of(process):
    try:
        output, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(next(line for line in output.splitlines() if line.startswith("{")))


def test_two_processes_follow_the_losses_of_one():
    """Each has half of every batch, one of them at times no box; as on two machines."""
    one, ports = run("train", 1), two_free_ports()
    workers = [start("work", rank, *ports, devices=1) for rank in (0, 1)]
    for two in map(result_of, workers):
        for name in one:
            np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-7, err_msg=name)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no distribution on torch")
def test_two_devices_follow_the_losses_of_one():
    """Also when all boxes are on one device: normalisers are sums over both."""
    one, two = run("train", 1), run("train", 2)
    assert len(one["loss"]) == 5
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-7, err_msg=name)
    # A last batch of one image, in arrays (left out once) and in a dataset (in each epoch).
    assert two["left out"] == [[1], [1, 1]]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="one suite compares all three backends"
)
@pytest.mark.parametrize("other", ["jax", "torch"])
def test_backends_give_the_same_detections(other, tmp_path):
    pytest.importorskip(other)
    model = small_model()
    model.compile(keras.optimizers.Adam(3e-3))
    batch = random_batch(size=(96, 150))
    model.fit(batch, epochs=15, verbose=0)
    model.save(tmp_path / "model.keras")
    expected = model.predict(batch["images"], verbose=0)
    run("predict", tmp_path, backend=other)
    found = np.load(tmp_path / f"{other}.npz")
    assert expected["num_detections"].min() > 0
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=0.01)
