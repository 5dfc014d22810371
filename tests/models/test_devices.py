"""Several devices follow one, and three backends give the same detections."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from common import assert_same_detections, two_free_ports

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


def assert_same_losses(two, one):
    for name in one:
        # The divergence of nearly equal distributions is a small rest of large terms.
        rtol = 1e-3 if "distillation" in name else 1e-5
        np.testing.assert_allclose(two[name], one[name], rtol=rtol, atol=1e-7, err_msg=name)


@pytest.fixture(scope="module")
def one():
    """What one device makes of the batches."""
    return run("train", 1)


def test_two_processes_follow_the_losses_of_one(one):
    """Each has half of every batch, one of them at times no box; as on two machines."""
    ports = two_free_ports()
    workers = [start("work", rank, *ports, devices=1) for rank in (0, 1)]
    for two in map(result_of, workers):
        assert_same_losses(two, one)


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras has no distribution on torch")
def test_two_devices_follow_the_losses_of_one(one):
    """Also when all boxes are on one device: normalisers are sums over both."""
    two = run("train", 2)
    assert len(one["GFLV2 loss"]) == 5 and len(one["FCOS quality_loss"]) == 3
    assert_same_losses(two, one)
    # A last batch of one image, in arrays (left out once) and in a dataset (in each epoch).
    assert two["left out"] == [[1], [1, 1]]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="one suite compares all three backends"
)
def test_backends_give_the_same_detections(trained, tmp_path):
    """Of one file, for images whose sides are no multiples of 32."""
    others = [name for name in ("jax", "torch") if importlib.util.find_spec(name)]
    if not others:
        pytest.skip("neither JAX nor PyTorch is installed")
    model, batch = trained
    model.save(tmp_path / "model.keras")
    images = np.concatenate([batch["images"], batch["images"][:, :, :22]], axis=2)
    np.save(tmp_path / "images.npy", images)
    processes = [start("predict", tmp_path, backend=name) for name in others]
    expected = model.predict(images, verbose=0)
    assert expected["num_detections"].min() > 0
    for name, process in zip(others, processes):
        result_of(process)
        found = np.load(tmp_path / f"{name}.npz")
        assert_same_detections(found, expected, score=1e-4, pixels=0.01, threshold=0.05)
