"""A detector on a hub: the folder is real, and comes back by `from_preset`.

What stands in for the network are the functions of the hubs' clients that would use it.
"""

import json
import shutil

import numpy as np
import pytest
from cli_commands import DATA, TINY, fails
from common import copy_of, small_model, to_numpy

import keras_gflv2
from keras_gflv2 import cli
from keras_gflv2.checkpoints import UploadError, model_card
from keras_gflv2.checkpoints.hub import parse_handle

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture
def hubs(tmp_path, monkeypatch):
    """The two hubs as folders; a dictionary of what else was sent."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    kagglehub = pytest.importorskip("kagglehub")
    sent = {}

    def create_repo(self, repo_id, *, private=None, exist_ok=False, repo_type=None):
        sent["private"] = private

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        sent["message"] = commit_message
        shutil.copytree(folder_path, tmp_path / "hub" / repo_id, dirs_exist_ok=True)

    def model_upload(handle, local_model_dir, license_name=None, version_notes=""):
        sent.update(license=license_name, message=version_notes)
        shutil.copytree(local_model_dir, tmp_path / "hub" / handle)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name: tmp_path / "hub" / name)
    monkeypatch.setattr(kagglehub, "model_upload", model_upload)
    monkeypatch.setattr(kagglehub, "model_download", lambda name: tmp_path / "hub" / name)
    return sent


@pytest.mark.parametrize("handle", ["hf://me/cells", "kaggle://me/cells/keras/small"])
def test_a_detector_comes_back_from_a_hub(handle, hubs, tmp_path):
    model = small_model(class_names=["a", "b", "c"], image_size=(64, 96))
    page = model.push_to_hub(handle, license="apache-2.0", private=True, message="first")
    assert page.startswith("https://") and "me/cells" in page
    assert hubs.pop("message") == "first"
    assert hubs == ({"private": True} if handle[0] == "h" else {"license": "Apache 2.0"})
    again = keras_gflv2.DenseDetector.from_preset(handle)
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected, found = to_numpy(model(images)), to_numpy(again(images))
    np.testing.assert_array_equal(found["scores"], expected["scores"])
    assert again.class_names == ["a", "b", "c"]
    card = (tmp_path / "hub" / handle.partition("://")[2] / "README.md").read_text()
    assert f'GFLV2.from_preset("{handle}")' in card and "a, b, c" in card
    # A second version takes the place of the first.
    if handle.startswith("hf"):
        copy_of(model).push_to_hub(handle, card="# Mine")
        assert (tmp_path / "hub/me/cells/README.md").read_text() == "# Mine"


@pytest.mark.parametrize(
    "handle", ["me/cells", "hf://cells", "hf://a/b/c", "kaggle://a/b", "gs://a/b", "hf://a/b c", ""]
)
def test_what_is_no_handle(handle):
    with pytest.raises(ValueError, match="hf://USER/NAME or kaggle://USER/NAME/keras/VARIATION"):
        parse_handle(handle)


def test_a_hub_that_refuses_is_told_with_what_to_check(hubs, monkeypatch):
    import huggingface_hub

    def refuse(*arguments, **options):
        raise huggingface_hub.errors.LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(UploadError, match=r"hf://me/cells could not be written.*hf auth login"):
        small_model().push_to_hub("hf://me/cells")


def test_a_card_has_all_that_it_is_given():
    metrics = {"AP": 0.5, "AP50": 0.75, "APs": -1.0, "per_class": {"a": 0.25, "b": -1.0}}
    data = {
        "train": {"source": "voc:x:train", "images": 9, "boxes": {"a": 3, "b": 4}},
        "validation": {"source": "tfds:x:val", "images": None, "boxes": None},
    }
    model = small_model()
    card = model_card(
        model, "Cells", "hf://me/cells", license="mit", data=data, metrics=metrics,
        training={"recipe": "1x", "note": "a|b"},
    )  # fmt: skip
    header = card.split("---")[1]
    # JSON is YAML, which the hub reads.
    values = dict(line.split(": ", 1) for line in header.strip().splitlines())
    assert json.loads(values["license"]) == "mit"
    assert json.loads(values["pipeline_tag"]) == "object-detection"
    lines = card.splitlines()
    assert "| train | `voc:x:train` | 9 | 3 | 4 |" in lines
    assert "| validation | `tfds:x:val` | unknown |  |  |" in lines
    assert "| AP | 0.5000 | IoU 0.50 to 0.95 |" in lines
    assert "| AP | 0.2500 | a alone |" in lines and "b alone" not in card
    assert "APs" not in card and "| note | `a\\|b` |" in lines
    assert f"{model.count_params():,} parameters" in card and lines[-1] == "mit"
    bare = model_card(model, "Cells", "hf://me/cells")
    assert "None was stated" in bare and "## Results" not in bare and "license:" not in bare


def test_push_tells_of_the_run(hubs, tmp_path, capsys):
    """What is sent can be looked at first; it is what the hub gets but for the name."""
    run = tmp_path / "run"
    command = ["train", *DATA, *TINY, "--epochs", "1", "--output", str(run)]
    assert cli.main(command) == 0
    push = ["push", "--model", str(run), "--license", "apache-2.0"]
    scored = ["--data", "shapes:val:2"]
    assert cli.main([*push, str(tmp_path / "look"), *scored]) == 0
    assert "README.md is the model card" in capsys.readouterr().out
    assert cli.main([*push, "hf://me/shapes"]) == 0
    assert "--model hf://me/shapes" in capsys.readouterr().out.splitlines()[-1]
    folders = [tmp_path / "look", tmp_path / "hub/me/shapes"]
    for folder in folders:
        names = {path.name for path in folder.iterdir()}
        assert names == {
            *("README.md", "config.json", "model.weights.h5", "curves.png", "detections.png")
        }
        loaded = keras_gflv2.DenseDetector.from_preset(str(folder))
        assert loaded.class_names == ["circle", "square", "triangle"]
    # Scored anew it tells the AP of each class, too.
    assert " alone |" in (folders[0] / "README.md").read_text()
    card = (folders[1] / "README.md").read_text()
    assert " alone |" not in card
    counts = json.loads((run / "arguments.json").read_text())["data"]["train"]
    assert counts["images"] == 4 and sum(counts["boxes"].values()) > 0
    boxes = " | ".join(str(counts["boxes"][name]) for name in ("circle", "square", "triangle"))
    assert f"| train | `shapes:train:4` | 4 | {boxes} |" in card
    assert "| AP | 0." in card and "![How the training went](curves.png)" in card
    assert "| recipe | `scratch` |" in card and card.rstrip().endswith("apache-2.0")


def test_push_mistakes(capsys, tmp_path):
    said = fails(capsys, "push", "--model", "nano_bccd", "hf://me")
    assert "hf://USER/NAME" in said
    said = fails(capsys, "push", "--model", "nano_bccd", "--card", "no.md", tmp_path / "x")
    assert "no.md" in said and not (tmp_path / "x").exists()


def test_the_card_of_an_embedded_preset(tmp_path):
    """Nothing is known of its training."""
    command = ["push", "--model", "nano_bccd", str(tmp_path / "cells")]
    assert cli.main(command) == 0
    card = (tmp_path / "cells/README.md").read_text()
    assert card.count("# cells") == 1 and "## Data" not in card
