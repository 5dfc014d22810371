"""`keras-gflv2 app` in a terminal: what it says, and how it ends."""

import importlib.util
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import keras
import pytest
from cli_commands import fails
from fresh_process import REPOSITORY

pytest.importorskip("starlette", reason='the extra "app" is not installed')
pytest.importorskip("vl_convert", reason='the extra "app" is not installed')
COMMAND = ["app", "--model", "nano_bccd", "--port", "0"]


def test_mistakes_are_told(capsys, tmp_path):
    assert "is not a folder" in fails(capsys, *COMMAND, "--examples", tmp_path / "absent")
    assert "has no image directly in it" in fails(capsys, *COMMAND, "--examples", tmp_path)
    assert "must be a number from 0 to 65535" in fails(capsys, *COMMAND, "--port", "70000")
    assert "not possible to listen at no.such.host.invalid" in fails(
        capsys, *COMMAND, "--host", "no.such.host.invalid"
    )


def test_a_port_that_is_taken_is_told(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = fails(capsys, *COMMAND, "--port", port)
    assert f"port {port}" in said and "--port 0 takes one that is free" in said


def test_a_missing_library_is_named(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "uvicorn" else found(name, *a)
    )
    said = fails(capsys, *COMMAND)
    assert "needs uvicorn" in said and 'pip install "keras-gflv2[app]"' in said


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the same on every backend")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        pytest.param(signal.SIGTERM, 143, "terminated", marks=pytest.mark.slow),
    ],
)
def test_it_ends_with_a_clear_line(number, code, word):
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_gflv2.cli", *COMMAND],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        address = re.fullmatch(
            r"Open (http://127\.0\.0\.1:\d+) in a browser\. Ctrl-C ends it\.\n",
            process.stdout.readline(),
        )[1]
        assert urllib.request.urlopen(address, timeout=60).status == 200
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert said.startswith(f"\n{word}") and said.endswith(
        f": {address} is closed; 0 images were looked at\n"
    )
    assert said.count("\n") == 2
