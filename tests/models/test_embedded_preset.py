"""The detector that comes with the package."""

import numpy as np
import pytest
from common import SHARED

import keras_gflv2
from keras_gflv2.models.presets import EMBEDDED_DIRECTORY

LARGEST = 4e6  # bytes
BCCD = SHARED / "data" / "bccd"


def test_it_is_small_and_works_without_a_network():
    folder = EMBEDDED_DIRECTORY / "nano_bccd"
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST
    model = keras_gflv2.GFLV2.from_preset("nano_bccd")
    assert model.class_names == ["Platelets", "RBC", "WBC"]
    # On noise it finds nothing that it is sure of.
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype("uint8")
    (found,) = model.detect([noise], score_threshold=0.5)
    assert len(found["boxes"]) == 0


def test_it_finds_blood_cells():
    if not BCCD.is_dir():
        pytest.skip(f"{BCCD} is absent")
    model = keras_gflv2.GFLV2.from_preset("nano_bccd")
    dataset = keras_gflv2.data.load_voc(BCCD, "val", batch_size=8, image_size=model.image_size)
    metrics = keras_gflv2.evaluation.evaluate_coco(model, dataset, verbose=0)
    assert metrics["AP"] > 0.52
