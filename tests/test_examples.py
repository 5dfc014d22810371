"""The extension that the documentation shows: a part of a user's own, in one file."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from common import to_numpy

import keras_gflv2
from keras_gflv2.targets import Targets

EXAMPLE = Path(__file__).parents[1] / "examples" / "new_assigner.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("new_assigner", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # which registers the assigner
    return module


def test_the_new_assigner_is_one_short_file():
    assert len(EXAMPLE.read_text().splitlines()) <= 80


def test_the_new_assigner_names_the_best_locations_inside(example):
    """One object of 48 pixels around a location of the level with stride 8."""
    boxes = np.float32([[[44, 44, 92, 92], [0, 0, 0, 0]]])
    targets = Targets(boxes, np.int32([[1, -1]]))
    at = keras_gflv2.AnchorGrid(offset=0.5)(128, 128)
    assigned = to_numpy(example.CenterPriorAssigner(topk=9)(targets, at).box_index)[0]
    points, strides = (to_numpy(x)[assigned == 0] for x in (at.points, at.strides))
    nearest = [(x, y) for y in (60, 68, 76) for x in (60, 68, 76)]
    assert sorted(map(tuple, points)) == sorted(nearest)
    assert (strides == 8).all()
    assert set(assigned) == {-1, 0}


def test_the_new_assigner_trains_and_is_loaded_with_its_detector(example, tmp_path, capsys):
    file = tmp_path / "detector.keras"
    example.main(["--num-images", "8", "--epochs", "1", "--output", str(file)])
    assert float(capsys.readouterr().out.rpartition("AP ")[2]) >= 0
    model, again = (keras.saving.load_model(file) for _ in range(2))
    assert type(model.assigner) is example.CenterPriorAssigner
    assert model.assigner.get_config() == example.CenterPriorAssigner().get_config()
    images = np.random.default_rng(0).uniform(0, 255, (1, 128, 128, 3)).astype("float32")
    np.testing.assert_array_equal(*(to_numpy(m(images)["scores"]) for m in (model, again)))
