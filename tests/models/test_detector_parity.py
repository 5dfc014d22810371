"""Whole detectors against the official ones, on deterministic weights, at full size.

With training steps of the deep ones: `pytest -m "slow or not slow"` on this file.
"""

import importlib.util
import json

import keras
import numpy as np
import pytest
from common import SHARED, to_numpy

import keras_gflv2
from keras_gflv2 import boxes as box_ops
from keras_gflv2.backbones.resnet import PIXEL_MEAN, PIXEL_STD
from keras_gflv2.checkpoints import load_checkpoint
from keras_gflv2.checkpoints.mmdetection import name_map
from keras_gflv2.models.gflv2 import STRIDES
from keras_gflv2.models.zoo import DETECTORS
from keras_gflv2.postprocessing import PredictionDecoder

PARITY = SHARED / "parity"
LEVELS = range(5)
# Preset: arrays of the official detector, tensors of its state dict, bounds on scores and logits.
OFFICIAL = {
    "r50_1x_coco": ("r50_1x_A.npz", "gfocal_r50_fpn_1x.json", 1e-4, 1e-3),
    "r101_dcn_coco": ("r101_dcn_A.npz", "gfocal_r101_dcn_fpn_ms2x.json", 1e-4, 1e-3),
    "x101_dcn_coco": ("x101_dcn_A.npz", "gfocal_x101_dcn_fpn_ms2x.json", 1e-4, 1e-3),
    "r2_101_dcn_coco": ("r2n101_dcn_A.npz", "gfocal_r2n101_dcn_fpn_ms2x.json", 1e-3, 1e-2),
}
# TensorFlow and XLA take minutes for the graph of a training step of a hundred layers.
TRAINED = [
    pytest.param(
        name,
        marks=pytest.mark.slow
        if keras.backend.backend() != "torch" and name != "r50_1x_coco"
        else (),
    )
    for name in OFFICIAL
]


def shared(*path):
    file = PARITY.parent.joinpath(*path)
    if not file.is_file():
        pytest.skip(f"{file} is absent")
    return file


def weights(rule, state_dict):
    """The state dict of a detector by its deterministic rule."""
    spec = importlib.util.spec_from_file_location("rule", shared("parity", *rule))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shapes = json.loads(shared("state_dicts", state_dict).read_text())
    return {key: module.value(key, shape) for key, shape in shapes.items()}, module


def pixels(normalised):
    """(B, 3, H, W) as the official network gets it -> (B, H, W, 3) in 0..255 and beyond."""
    return normalised.transpose(0, 2, 3, 1) * np.float32(PIXEL_STD) + np.float32(PIXEL_MEAN)


def image():
    random = np.random.default_rng(20210101)
    return pixels(random.standard_normal((1, 3, 256, 320)).astype("float32"))


def outputs_of(data, scores, logits):
    """Official maps -> scores (B, A, 81) and logits (B, A, 4, 17)."""
    flat = [data[scores.format(i)].transpose(0, 2, 3, 1).reshape(1, -1, 81) for i in LEVELS]
    sides = [data[logits.format(i)].transpose(0, 2, 3, 1).reshape(1, -1, 4, 17) for i in LEVELS]
    return np.concatenate(flat, axis=1), np.concatenate(sides, axis=1)


def detector(name, state, **arguments):
    model = keras_gflv2.GFLV2(**DETECTORS[name].constructor_arguments(**arguments))
    return load_checkpoint(model, state)


@pytest.mark.parametrize("name", OFFICIAL)
def test_scores_and_logits_equal_the_official_ones(name):
    file, state_dict, score_bound, logit_bound = OFFICIAL[name]
    data = np.load(shared("parity", file))
    state, _ = weights(["weights_rule.py"], state_dict)
    found = to_numpy(detector(name, state)(image()))
    scores, logits = outputs_of(data, "cls_score_{}", "bbox_pred_{}")
    np.testing.assert_allclose(found["scores"], scores[..., :80], rtol=0, atol=score_bound)
    np.testing.assert_allclose(found["box_distributions"], logits, rtol=0, atol=logit_bound)


@pytest.mark.parametrize("name", TRAINED)
def test_detections_and_training_equal_the_official_ones(name):
    """81 classes reproduce the background channel, which the official detections contain."""
    file, state_dict, score_bound, _ = OFFICIAL[name]
    data = np.load(shared("parity", file))
    state, _ = weights(["weights_rule.py"], state_dict)
    model = detector(name, state, num_classes=81)
    model.compile(keras.optimizers.SGD(1.0))
    official = data["det_bboxes_0"]
    sizes = np.int32([[250, 310]])
    found = model.predict_on_batch({"images": image(), "image_sizes": sizes})
    # Equal up to the order of scores that agree to rounding.
    assert found["num_detections"][0] == len(official)
    np.testing.assert_allclose(found["confidence"][0], official[:, 4], atol=score_bound)
    same = found["classes"][0] == data["det_labels_0"]
    assert same.mean() > 0.95
    np.testing.assert_allclose(found["boxes"][0][same], official[same, :4], atol=0.05)

    before = {key: to_numpy(variable).copy() for key, variable in name_map(model)}
    boxes = {"boxes": data["gt_bboxes_0"][None], "classes": data["gt_labels_0"][None]}
    targets = {**boxes, "classes": boxes["classes"].astype("int32")}
    logs = model.train_on_batch(image(), targets, return_dict=True)
    for term in ("cls", "bbox", "dfl"):
        ours = {"cls": "classification", "bbox": "box", "dfl": "distribution"}[term]
        assert logs[f"{ours}_loss"] == pytest.approx(data[f"loss_{term}"].sum(), rel=1e-4), term
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


def test_paddles_detector():
    data = np.load(shared("parity", "paddle", "gflv2_r50_ruleB_head_raw.npz"))
    state, rule = weights(["paddle", "weights_rule.py"], "paddle_gflv2_r50_fpn_1x_coco.json")
    found = to_numpy(detector("r50_1x_paddle_coco", state)(pixels(rule.image())))
    scores, logits = outputs_of(data, "raw_cls_scores_{}", "raw_bbox_preds_{}")
    np.testing.assert_allclose(found["scores"], scores[..., :80], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found["box_distributions"], logits, rtol=0, atol=1e-3)


def test_paddles_detections():
    """Paddle takes a second sigmoid of each score, thresholds nothing and clips no box."""
    data = np.load(shared("parity", "paddle", "gflv2_r50_ruleB_det.npz"))
    state, rule = weights(["paddle", "weights_rule.py"], "paddle_gflv2_r50_fpn_1x_coco.json")
    model = detector("r50_1x_paddle_coco", state, num_classes=81)
    images = pixels(rule.image())
    outputs = model(images)
    shapes = box_ops.level_shapes(*images.shape[1:3], STRIDES)
    points, strides = box_ops.locations(shapes, STRIDES)
    distances = model.integral(outputs["box_distributions"]) * strides
    decoder = PredictionDecoder(score_threshold=0.05)
    found = decoder(
        outputs["scores"],
        box_ops.boxes_from_distances(points, distances),
        locations_per_level=[rows * columns for rows, columns in shapes],
    )
    found = {key: to_numpy(value)[0] for key, value in found.items()}
    official = data["det"][np.argsort(-data["det"][:, 1], kind="stable")]
    np.testing.assert_allclose(1 / (1 + np.exp(-found["confidence"])), official[:, 1], atol=1e-5)
    same = found["classes"] == official[:, 0]
    assert same.mean() > 0.95
    np.testing.assert_allclose(found["boxes"][same], official[same, 2:], atol=0.05)


def test_every_published_state_dict_fits_its_preset():
    """Names and shapes alone: no tensor missing, none left over."""
    files = {
        **{name: row[1] for name, row in OFFICIAL.items()},
        "r50_coco": "gfocal_r50_fpn_ms2x.json",
        "r101_coco": "gfocal_r101_fpn_ms2x.json",
        "r50_1x_paddle_coco": "paddle_gflv2_r50_fpn_1x_coco.json",
        "gflv1_r50_1x_paddle_coco": "paddle_gfl_r50_fpn_1x_coco.json",
    }
    assert set(files) == set(DETECTORS)
    for name, file in files.items():
        if name in OFFICIAL:
            continue  # their tests load them
        shapes = json.loads(shared("state_dicts", file).read_text())
        detector(name, {key: np.zeros(shape, "float32") for key, shape in shapes.items()})
