"""A training that is killed ends with the weights of one that is not."""

import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from keras_gflv2.training import read_position

ARGUMENTS = (
    "train --backbone resnet18 "
    "--base-channels 8 --fpn-channels 16 --head-channels 16 --head-depth 1 --head-norm-groups 4 "
    "--image-size 64 64 --batch-size 2 --recipe finetune --mosaic 0.5 --verbose 0"
).split()
# The state is written after every step: at any moment a process may be writing.
ALWAYS = ["--checkpoint-minutes", "0"]


def start(output, *arguments):
    environment = {**os.environ, "TF_DETERMINISTIC_OPS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "keras_gflv2.cli", *ARGUMENTS, *arguments]
    if (output / "arguments.json").is_file():
        command.append("--resume")
    log = (output.parent / f"{output.name}.txt").open("w")
    return subprocess.Popen(
        [*command, "--output", str(output)], env=environment, stdout=log, stderr=log
    )


def finish(output, *arguments):
    code = start(output, *arguments).wait(600)
    assert code == 0, (output.parent / f"{output.name}.txt").read_text()[-2000:]
    return keras.saving.load_model(output / "model.keras").get_weights()


def kill_somewhere(output, training, moments):
    """Starts the run, and kills it some steps later, or before it has made one."""
    state = output / "state.weights.h5"
    process = start(output, *training, *ALWAYS)
    if moments.random() < 0.2:
        time.sleep(moments.uniform(0, 10))
    else:
        wanted = moments.randint(1, 4)
        seen, last = 0, written_at(state)
        while seen < wanted and process.poll() is None:
            time.sleep(0.005)
            if written_at(state) != last:
                seen, last = seen + 1, written_at(state)
        time.sleep(moments.uniform(0, 0.3))
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return was_running


def written_at(file):
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return None


SHORT = "--data shapes:train:16 --epochs 3".split()
LONG = "--data shapes:train:32 --validation-data shapes:val:4 --epochs 4".split()


@pytest.mark.slow  # each training several times over
@pytest.mark.parametrize("kills, training", [(1, SHORT), (20, LONG)])
def test_killed_at_random_moments(tmp_path, kills, training):
    expected = finish(tmp_path / "whole", *training)
    moments = random.Random(0)
    positions = []
    for _ in range(kills):
        assert kill_somewhere(tmp_path / "killed", training, moments), "it ended before all kills"
        positions.append(read_position(tmp_path / "killed"))
    print(f"{kills} kills; (epoch, step) after them: {positions}")
    assert positions == sorted(positions)
    weights = finish(tmp_path / "killed", *training, *ALWAYS)
    # Bitwise on TensorFlow; other backends promise no order of their sums.
    exact = keras.backend.backend() == "tensorflow"
    bounds = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-3, "atol": 1e-4}
    for one, other in zip(expected, weights, strict=True):
        np.testing.assert_allclose(other, one, **bounds)
    for name in ("whole", "killed"):
        log = (tmp_path / name / "log.csv").read_text().split("\n")
        epochs = [str(epoch) for epoch in range(int(training[-1]))]
        assert [line.split(",")[0] for line in log] == ["epoch", *epochs, ""]
