"""The walks of examples/walks: the commands of their guides, from data to a server's answer."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from common import to_numpy, two_free_ports

import keras_gflv2
from keras_gflv2 import cli, data

ROOT = Path(__file__).parents[1]
WALKS = ROOT / "examples" / "walks"
BLOCK = re.compile(r"(?ms)^```bash\n(.*?)^```")
# The name of each walk's data, and what changes in its commands, so that they take seconds.
QUICK = "--epochs 3 --batch-size 2 --learning-rate 0.02"
SMALLER = {
    "shapes": ("shapes", {":768": ":16", ":128": ":4", "--epochs 10": QUICK}),
    "voc": ("voc", {"runs/voc/data\n": "runs/voc/data --images 12\n", "--epochs 15": QUICK}),
    "coco": ("toys", {"runs/toys\n": "runs/toys --images 25\n", "--epochs 12": QUICK}),
}
of_each_walk = pytest.mark.parametrize("walk", SMALLER)


def commands(text):
    """The lines of a shell script without comments, each in one line with single spaces."""
    lines = (" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def test_there_is_a_guide_of_each_script():
    assert {path.stem for path in WALKS.glob("*.sh")} == set(SMALLER)
    assert {path.stem for path in (ROOT / "docs").glob("walk_*.md")} == {
        f"walk_{walk}" for walk in SMALLER
    }


@of_each_walk
def test_a_script_is_what_its_guide_tells_word_for_word(walk):
    first, *script = commands((WALKS / f"{walk}.sh").read_text())
    assert first == "set -euo pipefail"
    install, *guide = commands(
        "".join(BLOCK.findall((ROOT / "docs" / f"walk_{walk}.md").read_text()))
    )
    assert install.startswith("pip install ")
    assert script == guide


@pytest.mark.slow  # a dozen processes each
@of_each_walk
def test_a_walk_ends_with_the_answer_of_a_server(walk, tmp_path):
    name, changes = SMALLER[walk]
    script = (WALKS / f"{walk}.sh").read_text()
    changes = {**changes, "8501": str(two_free_ports()[0])}
    for old, new in changes.items():
        assert old in script, old
        script = script.replace(old, new)
    # After a few steps a detector is sure of nothing.
    script = re.sub(r" --score-threshold \S+", "", script)
    script = script.replace("keras-gflv2 predict ", "keras-gflv2 predict --score-threshold 0.001 ")
    run(script, tmp_path)
    folder = tmp_path / "runs" / name
    assert "<html" in (folder / "report.html").read_text()[:2000]
    assert (folder / "check" / "contact_sheet.jpg").is_file()
    found, served = (
        json.loads((folder / part / "detections.json").read_text())
        for part in ("found", "found_by_server")
    )
    names = {row["file_name"] for row in served}
    found = [row for row in found if row["file_name"] in names]
    assert len(found) == len(served) > 0
    np.testing.assert_allclose(
        sorted(row["score"] for row in served), sorted(row["score"] for row in found), atol=1e-4
    )


def run(script, folder):
    """Runs a script in a folder that looks like a clone; all of its processes end with it."""
    (folder / "examples").symlink_to(ROOT / "examples")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=900)
            assert process.returncode == 0, said[-3000:]
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # all have ended
                pass


def call(script, *arguments):
    """Runs a script of the walks in this process."""
    namespace = {"__name__": "script", "__file__": str(WALKS / script)}
    exec(compile((WALKS / script).read_text(), script, "exec"), namespace)
    namespace["main"]([str(argument) for argument in arguments])


def test_the_drawn_voc_folder_has_the_boxes_of_its_shapes(tmp_path):
    call("make_voc_folder.py", tmp_path / "data", "--bccd", "nowhere", "--images", 3)
    found = data.load_voc(tmp_path / "data").annotations.records
    drawn = data.load_shapes("walk", num_images=3, size=(240, 320), objects=(5, 12))
    drawn = drawn.annotations.records
    for one, other in zip(found, drawn, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.01)
        assert len(one.classes) == len(other.classes)


def test_a_folder_of_bccd_is_copied_as_far_as_it_is_wanted(tmp_path):
    call("make_voc_folder.py", tmp_path / "whole", "--bccd", "nowhere", "--images", 3)
    (tmp_path / "whole" / "annotations").rename(tmp_path / "whole" / "Annotations")
    (tmp_path / "whole" / "images").rename(tmp_path / "whole" / "JPEGImages")
    call("make_voc_folder.py", tmp_path / "part", "--bccd", tmp_path / "whole", "--images", 2)
    assert data.load_voc(tmp_path / "part").num_images == 2


def test_the_checkpoint_of_the_coco_walk_is_nano_bccd(nano, tmp_path):
    call("make_coco_file.py", tmp_path, "--images", 5)
    val_ds = data.load_coco(tmp_path / "val.json", tmp_path / "images")
    assert len(val_ds.class_names) == 20 and val_ds.num_images == 1
    command = ["convert", str(tmp_path / "checkpoint.pth"), "--preset", "gflv1_r18_ld_coco"]
    command += ["--head-norm-groups", "8", "--class-names", *nano.class_names]
    assert cli.main([*command, "--output", str(tmp_path / "converted")]) == 0
    converted = keras_gflv2.GFLV2.from_preset(tmp_path / "converted")
    image = np.random.default_rng(0).uniform(0, 255, (1, 96, 128, 3)).astype("float32")
    np.testing.assert_allclose(
        to_numpy(converted(image)["scores"]), to_numpy(nano(image)["scores"]), atol=1e-5
    )
