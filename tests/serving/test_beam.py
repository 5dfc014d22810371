"""The example for Apache Beam: a folder of images by the export, on the direct runner.

apache-beam wants an older protobuf than TensorFlow's other companions: where it is not installed
here, BEAM_PYTHON names a Python that has it and TensorFlow, and nothing of this package.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from common import assert_same_detections

SCRIPT = Path(__file__).parents[2] / "examples" / "beam_detect.py"
BEAM = importlib.util.find_spec("apache_beam") is not None
PYTHON = os.environ.get("BEAM_PYTHON") or (sys.executable if BEAM else None)

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="apache-beam is not installed, nor BEAM_PYTHON set"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the export is the same"),
]


def test_a_folder_is_found_as_by_the_model(exported, model, pictures, tmp_path):
    """Images of several sizes, one of them in a folder of its own, and a file that is none."""
    photos, found = tmp_path / "photos", tmp_path / "found"
    (photos / "more").mkdir(parents=True)
    for index, content in enumerate(pictures[:5]):
        folder = photos if index else photos / "more"
        (folder / f"{index}.jpg").write_bytes(content)
    (photos / "broken.jpg").write_bytes(pictures[0][:300])
    options = ["--model", exported, "--output", found / "part", "--batch-size", "3"]
    command = [PYTHON, SCRIPT, "--images", f"{photos}/**.jpg", *options, "--score-threshold", "0.2"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]

    lines = [line for file in found.iterdir() for line in file.read_text().splitlines()]
    records = {Path(record["file_name"]).stem: record for record in map(json.loads, lines)}
    assert "error" in records.pop("broken") and len(lines) == 6
    for index, content in enumerate(pictures[:5]):
        entries = records[str(index)]["detections"]
        boxes = np.float32([entry["bbox"] for entry in entries]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        ours = {
            "boxes": boxes,
            "classes": np.array([entry["category_id"] - 1 for entry in entries]),
            "confidence": np.float32([entry["score"] for entry in entries]),
            "uncertainties": np.float32([entry["uncertainties"] for entry in entries]),
        }
        (theirs,) = model.detect(content, 0.2)
        assert len(theirs["boxes"])
        assert_same_detections(ours, theirs, threshold=0.2)
