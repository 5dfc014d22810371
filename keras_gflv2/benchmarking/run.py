"""A benchmark from its options to its rows: files prepared, then all subjects in turn."""

import json
import os
import subprocess
import sys
from pathlib import Path

from keras_gflv2.benchmarking import machine, subjects
from keras_gflv2.benchmarking.prepare import INFO_FILE
from keras_gflv2.benchmarking.report import row_of
from keras_gflv2.benchmarking.turns import Subject, measure_in_turn

MODULE = "keras_gflv2.benchmarking"
# The first is the one of which start-up and memory are measured.
INFERENCE_PARTS = (subjects.END_TO_END, subjects.NETWORK, subjects.DECODING, subjects.PREDICT)


def prepare(folder, **options):
    """Runs `prepare.prepare` in a process of its own; returns what it says of the detector.

    Raises:
        ValueError: it failed; the message is the last line that it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", f"{MODULE}.prepare", json.dumps({"folder": str(folder), **options})],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    if done.returncode:
        raise ValueError((done.stderr.strip().splitlines() or ["the preparation failed"])[-1])
    return json.loads((Path(folder) / INFO_FILE).read_text())


def detector_subject(backend, parts, folder, size, batch, name=None, **arguments):
    """This package on a backend; `arguments` are of `subjects.detector`."""
    return Subject(
        name=name or backend,
        function=f"{MODULE}.subjects:detector",
        arguments={"folder": str(folder), "size": size, "batch": batch, **arguments},
        parts=tuple(parts),
        environment={"KERAS_BACKEND": backend},
    )


def export_subject(format, folder, size, batch):
    """An exported file in its runtime."""
    return Subject(
        name=format,
        function=f"{MODULE}.subjects:exported",
        arguments={"folder": str(folder), "format": format, "size": size, "batch": batch},
        parts=(subjects.END_TO_END,),
    )


def measure(group, repeat, common, operations=None, say=print, count=iter):
    """Rows of some subjects, measured in turn.

    Args:
        group: list of `Subject`; times are divided by those of the first.
        repeat: turns of each.
        common: {"model", "size", "batch"}, columns that all rows have.
        operations: of the network for one image, or None.
        say, count: as in `measure_in_turn`.
    """
    times, starts = measure_in_turn(group, repeat, say, count)
    batch = common["batch"]
    counted = {subjects.CONVOLUTION: subjects.CONV_OPERATIONS}
    if operations:
        counted[subjects.NETWORK] = operations * batch
    described, rows = machine.describe(), []
    for subject in group:
        version = machine.version_of(subject.name)
        for part in subject.parts:
            if (subject.name, part) in times:
                found = row_of(times, subject.name, part, group[0].name, batch, counted.get(part))
                figures = starts.get((subject.name, part), {})
                figures = {name: round(value, 2) for name, value in figures.items()}
                rows.append({**common, **found, **figures, "version": version, **described})
    _add_fractions(rows)
    return rows


def _add_fractions(rows):
    """Of the best rate that a convolution has had, how much the networks reach."""
    rates = [r["gigaflop_per_second"] for r in rows if r["part"] == subjects.CONVOLUTION]
    for row in rows:
        if rates and row["part"] == subjects.NETWORK and row["gigaflop_per_second"]:
            fraction = row["gigaflop_per_second"] / max(rates)
            row["fraction_of_convolution"] = round(fraction, 3)
