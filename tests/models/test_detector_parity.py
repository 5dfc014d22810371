"""Whole detectors against the official ones, on deterministic weights.

The arrays of `golden/detectors` are the official detectors' outputs for one image of 256 x 320: all
locations of P5 to P7 and 200 of P3 and P4, the detections, and the losses and gradients of a
training step. With training steps of the deep ones: `pytest -m "slow or not slow"` on this file.
"""

import gzip
import importlib.util
import json

import keras
import numpy as np
import pytest
from common import GOLDEN, assert_same_detections, to_numpy

import keras_gflv2
from keras_gflv2.backbones.resnet import PIXEL_MEAN, PIXEL_STD
from keras_gflv2.checkpoints import load_checkpoint
from keras_gflv2.checkpoints.mmdetection import name_map
from keras_gflv2.models.zoo import DETECTORS
from keras_gflv2.postprocessing import PredictionDecoder

OFFICIAL = GOLDEN / "detectors"
# Preset: bounds on scores and logits.
BOUNDS = {
    "r50_1x_coco": (1e-4, 1e-3),
    "r101_dcn_coco": (1e-4, 1e-3),
    "x101_dcn_coco": (1e-4, 1e-3),
    "r2_101_dcn_coco": (1e-3, 1e-2),
}
BACKEND = keras.backend.backend()
# A training step of a hundred layers takes XLA minutes to compile.
TRAINED = [
    pytest.param(name, marks=pytest.mark.slow if name != "r50_1x_coco" else ()) for name in BOUNDS
]


@pytest.fixture(scope="module")
def state_dicts():
    """{preset: {name: shape}} of the published files."""
    return json.loads(gzip.decompress((OFFICIAL / "state_dicts.json.gz").read_bytes()))


def weights_rule(path):
    spec = importlib.util.spec_from_file_location("rule", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULE = weights_rule(GOLDEN / "weights_rule.py")
PADDLES_RULE = weights_rule(OFFICIAL / "paddle_weights_rule.py")


def pixels(normalised):
    """(B, 3, H, W) as the official network gets it -> (B, H, W, 3) in 0..255 and beyond."""
    return normalised.transpose(0, 2, 3, 1) * np.float32(PIXEL_STD) + np.float32(PIXEL_MEAN)


def image():
    random = np.random.default_rng(20210101)
    return pixels(random.standard_normal((1, 3, 256, 320)).astype("float32"))


def detector(name, shapes, rule=RULE):
    """81 classes reproduce the background channel, which the official detections contain."""
    model = keras_gflv2.GFLV2(**DETECTORS[name].constructor_arguments(num_classes=81))
    return load_checkpoint(model, {key: rule.value(key, shape) for key, shape in shapes.items()})


def assert_same_outputs(outputs, data, score_bound, logit_bound):
    for key, bound in (("scores", score_bound), ("box_distributions", logit_bound)):
        ours = to_numpy(outputs[key])[0][data["locations"]]
        np.testing.assert_allclose(ours, data[key], rtol=0, atol=bound, err_msg=key)


# ResNeXt's stages are deformable too.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "r101_dcn_coco" else ())
        for name in BOUNDS
    ],
)
def test_scores_logits_and_detections_equal_the_official_ones(name, state_dicts):
    data, bounds = np.load(OFFICIAL / f"{name}.npz"), BOUNDS[name]
    model, images = detector(name, state_dicts[name]), image()
    outputs = model(images)
    assert_same_outputs(outputs, data, *bounds)
    found = to_numpy(model.decode_predictions(outputs, images, np.int32([[250, 310]])))
    boxes, scores = data["det_bboxes"][:, :4], data["det_bboxes"][:, 4]
    official = {"boxes": boxes, "classes": data["det_labels"], "confidence": scores}
    assert found.pop("num_detections")[0] == len(scores) == 100
    # The last ones may be others, of scores that are equal to rounding.
    ours = {key: values[0] for key, values in found.items()}
    assert_same_detections(ours, official, bounds[0], pixels=0.05, threshold=scores.min())


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_equals_the_official_one(name, state_dicts):
    data = np.load(OFFICIAL / f"{name}.npz")
    model = detector(name, state_dicts[name])
    model.compile(keras.optimizers.SGD(1.0), run_eagerly=BACKEND == "tensorflow")
    before = {key: to_numpy(variable).copy() for key, variable in name_map(model)}
    targets = {
        "boxes": data["gt_bboxes"][None],
        "classes": data["gt_labels"][None].astype("int32"),
    }
    logs = model.train_on_batch(image(), targets, return_dict=True)
    for term, official in zip(("classification", "box", "distribution"), data["losses"]):
        assert logs[f"{term}_loss"] == pytest.approx(official, rel=1e-4), term
    # Plain SGD with rate 1: the change of a weight is its gradient.
    after = {key: to_numpy(variable).astype("float64") for key, variable in name_map(model)}
    ours = np.array([np.linalg.norm(after[key] - before[key]) for key in data["grad_names"]])
    official = data["grad_l2"]
    # Which ReLUs are at zero is up to rounding, and decides about parts of the gradient: pixels
    # that differ by 1e-7 move the gradient of single weights by 5e-3, and Res2Net's, the noisiest
    # network, by 2e-2, on either side.
    noise = 5 if name.startswith("r2") else 1
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(official), rel=1e-3 * noise)
    np.testing.assert_allclose(ours, official, rtol=1e-2 * noise, atol=1e-6)
    assert np.median(np.abs(ours / np.maximum(official, 1e-6) - 1)) < 1e-3 * noise
    for key in data["frozen_names"]:
        np.testing.assert_array_equal(after[key], before[key])


def test_paddles_detector(state_dicts):
    """Paddle takes a second sigmoid of each score, thresholds nothing and clips no box."""
    name = "r50_1x_paddle_coco"
    data = np.load(OFFICIAL / f"{name}.npz")
    model = detector(name, state_dicts[name], PADDLES_RULE)
    images = pixels(PADDLES_RULE.image())
    outputs = model(images)
    assert_same_outputs(outputs, data, 1e-4, 1e-3)
    boxes, lengths = model.locate(outputs, *images.shape[1:3])
    decoder = PredictionDecoder(score_threshold=0.05)
    found = decoder(outputs["scores"], boxes, locations_per_level=lengths)
    found = {key: to_numpy(value)[0] for key, value in found.items()}
    found["confidence"] = 1 / (1 + np.exp(-found["confidence"]))
    det = data["det"][np.argsort(-data["det"][:, 1], kind="stable")]
    official = {"boxes": det[:, 2:], "classes": det[:, 0], "confidence": det[:, 1]}
    assert_same_detections(found, official, 1e-5, pixels=0.05, threshold=det[:, 1].min())
