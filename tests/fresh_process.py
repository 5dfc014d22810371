"""Python in a process of its own: what it prints, and what it imports."""

import os
import pathlib
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).parents[1]


def run_python(*arguments, backend=True):
    """Runs Python in a process of its own; returns what it prints and what it says of imports."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    if not backend:
        environment.pop("KERAS_BACKEND", None)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


def imported(*arguments):
    """Top-level packages that a run of Python imports."""
    _, log = run_python("-X", "importtime", *arguments)
    lines = (line.rpartition("|")[2].strip() for line in log.splitlines() if "|" in line)
    found = {name.partition(".")[0] for name in lines}
    assert "keras_gflv2" in found
    return found
