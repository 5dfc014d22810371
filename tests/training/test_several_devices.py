"""The `train` command on several devices and in several processes trains as on one device."""

import csv
import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from common import two_free_ports

from keras_gflv2 import cli
from keras_gflv2.cli import train
from keras_gflv2.training import read_position

BACKEND = keras.backend.backend()
# Live batch statistics, mosaic, and averaged weights: everything that could depend on the devices.
# Two images a device: of one, oneDNN's gradient of a convolution of 8 channels corrupts the heap.
ARGUMENTS = (
    "train --data shapes:train:12 --validation-data shapes:val:2 --backbone resnet18 "
    "--base-channels 8 --fpn-channels 16 --head-channels 16 --head-depth 1 --head-norm-groups 4 "
    "--image-size 64 64 --batch-size 4 --recipe 1x --learning-rate 0.02 --ema 0.5 --epochs 2 "
    "--mosaic 0.5 --verbose 2"
).split()


def start(output, *arguments, **variables):
    environment = {**os.environ, "TF_DETERMINISTIC_OPS": "1", **variables}
    command = [sys.executable, "-m", "keras_gflv2.cli", *ARGUMENTS, *arguments]
    return subprocess.Popen(
        [*command, "--output", str(output)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(process):
    try:
        output, _ = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, output[-3000:]
    return output


def as_worker(rank, ports):
    """The environment of one of two machines."""
    addresses = [f"localhost:{port}" for port in ports]
    task = {"type": "worker", "index": rank}
    return {
        "tensorflow": {
            "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
        },
        "jax": {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join(addresses),
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
        },
        "torch": {
            "RANK": str(rank),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(ports[0]),
        },
    }[BACKEND]


def outcome(folder):
    """Final weights, and what the log says of every epoch but the time it took."""
    with (folder / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [
        {k: float(v) for k, v in row.items() if k not in ("images_per_second", "seconds")}
        for row in rows
    ]
    return keras.saving.load_model(folder / "model.keras").get_weights(), numbers


def assert_same(one, other):
    for expected, found in zip(one[1], other[1], strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert_same_weights(one, other)


def assert_same_weights(one, other):
    for expected, found in zip(one[0], other[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def on_one_device(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    result(start(folder))
    weights, log = outcome(folder)
    # There is something to follow: a hundred times the tolerance.
    assert len(log) == 2 and abs(log[0]["loss"] - log[1]["loss"]) > 0.01 * log[0]["loss"] / 2
    return weights, log


@pytest.mark.slow  # Two devices are followed in models/test_devices.py, the command's data below.
def test_devices_of_one_machine(on_one_device, tmp_path):
    output = result(start(tmp_path / "run", "--devices", "2"))
    assert "on 2 devices" in output
    assert_same(on_one_device, outcome(tmp_path / "run"))


@pytest.mark.slow  # Two processes are followed in models/test_devices.py.
def test_machines(on_one_device, tmp_path):
    """Two processes of one machine, each as if it were one; the first writes and speaks."""
    ports = two_free_ports()
    workers = [start(tmp_path / "run", **as_worker(rank, ports)) for rank in (0, 1)]
    outputs = [result(worker) for worker in workers]
    assert "on 2 devices" in outputs[0] and "Wrote" in outputs[0]
    assert "Epoch" not in outputs[1] and "Wrote" not in outputs[1]
    assert_same(on_one_device, outcome(tmp_path / "run"))
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"best.keras", "preset", "curves.png", "detections.png", "log.csv"} <= written


@pytest.mark.slow
def test_machines_that_are_killed_go_on(on_one_device, tmp_path):
    """In the midst of an epoch: the first one's checkpoint is that of all."""
    run, always = tmp_path / "run", ["--checkpoint-minutes", "0"]
    ports = two_free_ports()
    workers = [start(run, *always, **as_worker(rank, ports)) for rank in (0, 1)]
    while read_position(run) < (0, 2) and all(worker.poll() is None for worker in workers):
        time.sleep(0.01)
    for worker in workers:
        assert worker.poll() is None
        worker.kill()
        worker.wait()
    epoch, step = read_position(run)
    assert step > 0
    ports = two_free_ports()
    outputs = [
        result(worker)
        for worker in [start(run, "--resume", **as_worker(rank, ports)) for rank in (0, 1)]
    ]
    assert f"from step {step} of epoch {epoch + 1}" in outputs[0]
    assert_same_weights(on_one_device, outcome(run))


def test_what_devices_cannot_do_is_said():
    def check(*arguments):
        parsed = cli.parse_arguments([*ARGUMENTS, "--output", "run", *arguments])
        train._check_devices(parsed, 2)

    with pytest.raises(ValueError, match="multiple of their number, 2"):
        check("--batch-size", "3")
    if BACKEND == "tensorflow":
        with pytest.raises(ValueError, match="accumulate"):
            check("--accumulate", "2")
    check("--batch-size", "6")
