"""One small evaluated set for all tests of the report."""

import copy

import pytest


@pytest.fixture(scope="session")
def evaluated(trained):
    """A detector, a dataset whose truth differs from what it has learnt, and what it finds there.

    In the first image an object has another class, in the second one is elsewhere: a confusion, a
    detection on the background and a missed object.
    """
    from evaluation.fake_model import Dataset

    from keras_gflv2.evaluation.detections import detect_dataset

    model, batch = trained
    batch = copy.deepcopy(batch)
    truth = batch["bounding_boxes"]
    truth["classes"][0, 0] = (truth["classes"][0, 0] + 1) % 3
    truth["boxes"][1, 0] = far_from(truth["boxes"][1, 0])
    dataset = Dataset([batch])
    dataset.class_names = model.class_names
    dataset.bounding_box_format = "xyxy"
    return model, dataset, detect_dataset(model, dataset, verbose=0)


def far_from(box):
    """A box of 20 pixels in the corner of the image (96, 128) that is farther away."""
    left = 2 if box[0] + box[2] > 128 else 106
    top = 2 if box[1] + box[3] > 96 else 74
    return [left, top, left + 20, top + 20]


@pytest.fixture(scope="session")
def run(evaluated):
    """What the report says of it. Not to be changed."""
    from keras_gflv2.reporting import run_of

    return run_of("small", *evaluated)
