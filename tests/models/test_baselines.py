"""ATSS, FCOS, FoveaBox and RetinaNet against the official implementations, on one small network.

`../shared/baselines`, in part also `golden/baselines`, has what the official code computes from
deterministic weights; the same weights are loaded here by their official names.
"""

import functools
import json
import sys

import keras
import numpy as np
import pytest
from common import GOLDEN, SHARED, assert_same_detections, golden, nhwc, to_numpy

import keras_gflv2
from keras_gflv2 import DenseDetector
from keras_gflv2.backbones.resnet import PIXEL_MEAN, PIXEL_STD
from keras_gflv2.checkpoints import load_checkpoint
from keras_gflv2.recipes import SGDWithL2
from keras_gflv2.targets import Targets

BASELINES = SHARED / "baselines"
# Where it is absent, the first batch and the training run of each detector.
SMALL = BASELINES if BASELINES.exists() else GOLDEN / "baselines"
WITH_SHARED = pytest.mark.skipif(not BASELINES.exists(), reason="../shared/baselines is not here")

CLASSES = {
    "atss": keras_gflv2.ATSS,
    "fcos": keras_gflv2.FCOS,
    "fovea": keras_gflv2.FoveaBox,
    "retina": keras_gflv2.RetinaNet,
}
OUTPUTS = {"atss": "box_deltas", "retina": "box_deltas"}
LOSSES = {
    "loss_cls": "classification_loss",
    "loss_bbox": "box_loss",
    "loss_centerness": "quality_loss",
}
DETECTORS = pytest.mark.parametrize("name", CLASSES)
# Recorded batches; one of them says nearly all.
BATCHES = pytest.mark.parametrize(
    "k", [0, *(pytest.param(k, marks=[pytest.mark.slow, WITH_SHARED]) for k in (1, 2))]
)


@functools.cache
def official(name):
    return dict(np.load(SMALL / f"{name}.npz"))


def weights_rule():
    sys.path.insert(0, str(GOLDEN))
    try:
        import weights_rule
    finally:
        sys.path.pop(0)
    return weights_rule


@functools.cache
def official_state(name):
    shapes, rule = json.loads(str(official(name)["state_shapes_json"])), weights_rule()
    return {key: rule.value(key, shape, basic_block=True) for key, shape in shapes.items()}


def detector(name):
    has_norm = name in ("atss", "fcos")
    model = CLASSES[name](
        keras_gflv2.backbones.ResNet(18, pixel_mean=(127.5,) * 3, pixel_std=(64.0,) * 3),
        num_classes=3,
        fpn_channels=64,
        head_channels=64,
        head_depth=2,
        head_norm_groups=8 if has_norm else None,
    )
    return load_checkpoint(model, official_state(name))


@functools.cache
def untrained(name):
    """Not to be changed."""
    model = detector(name)
    model.compile(SGDWithL2(1e-3))
    return model


def batch(k):
    data = golden("batches.npz")
    boxes, classes = np.zeros((2, 8, 4), "float32"), np.full((2, 8), -1, "int32")
    for i in range(2):
        count = len(data[f"labels_{k}_{i}"])
        boxes[i, :count], classes[i, :count] = data[f"boxes_{k}_{i}"], data[f"labels_{k}_{i}"]
    return data[f"images_{k}"].astype("float32"), {"boxes": boxes, "classes": classes}


def flat(data, k, kind, length):
    """What the official head returns for all levels: (B, A, length)."""
    levels = [nhwc(data[f"{k}_{kind}_{i}"]) for i in range(5)]
    return np.concatenate([x.reshape(2, -1, length) for x in levels], axis=1)


@BATCHES
@DETECTORS
def test_outputs_equal_the_official_ones(name, k):
    data = official(name)
    found = to_numpy(untrained(name)(batch(k)[0], training=False))
    expected = {"class_logits": flat(data, k, "cls", 3)}
    expected[OUTPUTS.get(name, "box_distances")] = flat(data, k, "box", 4)
    if f"{k}_centerness_0" in data:
        expected["centerness"] = flat(data, k, "centerness", 1)[..., 0]
    for key, values in expected.items():
        largest = np.abs(values).max()
        np.testing.assert_allclose(found[key], values, atol=1e-4 * largest, err_msg=key)


@BATCHES
@DETECTORS
def test_assignments_and_targets_equal_the_official_ones(name, k):
    data, model = official(name), untrained(name)
    images, y = batch(k)
    targets = Targets.from_batch(y, "xyxy", images)
    at = model.grid(*images.shape[1:3])
    assignment = model.assigner(targets, at)
    index, valid = to_numpy((assignment.box_index, assignment.valid))
    labels = np.take_along_axis(y["classes"], np.maximum(index, 0), axis=1)
    np.testing.assert_array_equal(np.where(index >= 0, labels, 3), data[f"{k}_labels"])
    weights = data.get(f"{k}_label_weights", np.ones_like(valid, "float32"))
    np.testing.assert_array_equal(valid, weights > 0)
    boxes = np.take_along_axis(y["boxes"], np.maximum(index, 0)[..., None], axis=1)
    encoded = to_numpy(model.representation.encode(boxes, at))
    positive = index >= 0
    assert positive.any()
    np.testing.assert_allclose(
        encoded[positive], data[f"{k}_box_targets"][positive], rtol=1e-5, atol=1e-5
    )


@BATCHES
@DETECTORS
def test_losses_equal_the_official_ones(name, k):
    data, model = official(name), untrained(name)
    images, y = batch(k)
    logs = model.test_on_batch(images, y, return_dict=True)
    model.reset_metrics()
    for key, ours in LOSSES.items():
        if f"{k}_{key}" in data:
            assert float(logs[ours]) == pytest.approx(float(data[f"{k}_{key}"]), rel=1e-4), ours


@DETECTORS
def test_the_gradient_has_the_official_norm(name):
    """Read off one step of gradient descent, so large that the weights before do not matter."""
    data, model, rate = official(name), detector(name), 1e4
    model.compile(keras.optimizers.SGD(rate))
    before = {v.path: to_numpy(v).astype("float64") for v in model.trainable_variables}
    model.train_on_batch(*batch(0))
    steps = [before[v.path] - to_numpy(v) for v in model.trainable_variables]
    norm = np.sqrt(sum(np.sum(np.square(step)) for step in steps)) / rate
    expected = np.sqrt(np.sum(np.square(data["0_grad_l2"])))
    assert norm == pytest.approx(expected, rel=1e-3)


@BATCHES
@DETECTORS
def test_detections_equal_the_official_ones(name, k):
    data, model = official(name), untrained(name)
    images, _ = batch(k)
    found = to_numpy(model.predict_on_batch(images))
    for i in range(2):
        boxes, labels = data[f"{k}_det_boxes_{i}"], data[f"{k}_det_labels_{i}"]
        expected = {"boxes": boxes[:, :4], "classes": labels, "confidence": boxes[:, 4]}
        one = {key: found[key][i] for key in expected}
        last = boxes[-1, 4] if len(boxes) == 100 else None
        assert_same_detections(one, expected, score=1e-4, pixels=0.05, threshold=last)


@DETECTORS
def test_training_follows_the_official_losses(name):
    """The first two steps closely; rounding grows along a run."""
    data, model = official(name), detector(name)
    rate = 1e-3 if name in ("atss", "fcos") else 1e-4
    model.compile(SGDWithL2(rate, momentum=0.9, l2=1e-4))
    logs = []
    for step in range(5):
        model.reset_metrics()
        logs.append(model.train_on_batch(*batch(step), return_dict=True))
    for key, ours in LOSSES.items():
        if f"run_{key}" in data:
            found = np.array([float(log[ours]) for log in logs])
            np.testing.assert_allclose(found[:2], data[f"run_{key}"][:2], rtol=1e-4, err_msg=ours)
            np.testing.assert_allclose(found, data[f"run_{key}"], rtol=0.02, err_msg=ours)


# === Whole detectors ===

# Preset, whose file has these keys: the official outputs.
WHOLE = {
    "atss_r50_1x_coco": "atss_r50",
    "fcos_r50_caffe_1x_coco": "fcos_r50_caffe",
    "fovea_r50_1x_coco": "fovea_r50",
    "gflv1_r18_ld_coco": "gfl_r18",
    "retinanet_r50_1x_coco": "retinanet_r50",
}
CAFFE_MEAN = np.float32([103.53, 116.28, 123.675])  # BGR


def whole_detector(preset, name):
    shapes = json.loads((SHARED / "state_dicts" / f"{name}.json").read_text())
    rule = functools.partial(weights_rule().value, basic_block=name == "gfl_r18")
    model = DenseDetector.from_preset(preset, load_weights=False)
    return load_checkpoint(model, {key: rule(key, shape) for key, shape in shapes.items()})


def whole_image(name):
    """RGB whose normalization is the official input."""
    x = nhwc(np.random.default_rng(20210101).standard_normal((1, 3, 256, 320)).astype("float32"))
    if name.endswith("caffe"):
        return (x + CAFFE_MEAN)[..., ::-1]
    return x * np.float32(PIXEL_STD) + np.float32(PIXEL_MEAN)


def channels_of(data, kind, values, per_cell):
    """Ours (A, ...) by levels beside the official maps, of which every n-th channel is kept."""
    start = 0
    for i in range(5):
        official = data[f"{kind}_{i}"][0]  # (C, H, W)
        count = per_cell * official[0].size
        ours = values[start : start + count].reshape(*official.shape[1:], -1)
        yield ours[..., :: int(data[f"{kind}_{i}_step"])], official.transpose(1, 2, 0)
        start += count
    assert start == len(values)


@WITH_SHARED
@pytest.mark.parametrize("preset", WHOLE)
def test_whole_detectors_equal_the_official_ones(preset):
    name = WHOLE[preset]
    data = np.load(BASELINES / f"full_{name}_A.npz")
    model, images = whole_detector(preset, name), whole_image(name)
    outputs = model(images)
    found = {key: value[0] for key, value in to_numpy(outputs).items()}
    at = model.grid(256, 320)
    boxes = found[model.representation.output_name]
    if name.startswith("fcos"):  # in pixels, officially
        boxes = boxes * to_numpy(at.strides)
    ours = {"cls": found["class_logits"], "box": boxes, "centerness": found.get("centerness")}
    for kind, values in ours.items():
        if values is None:
            assert f"{kind}_0" not in data
            continue
        for ours, official in channels_of(data, kind, values, model.grid.anchors_per_cell):
            atol = 1e-3 * np.abs(official).max()
            np.testing.assert_allclose(ours, official, rtol=0, atol=atol, err_msg=kind)
            if kind == "cls":
                scores = [1 / (1 + np.exp(-x.astype("float64"))) for x in (ours, official)]
                np.testing.assert_allclose(*scores, rtol=0, atol=1e-4)
    found = to_numpy(model.decode_predictions(outputs, images))
    boxes, labels = data["det_boxes_0"], data["det_labels_0"]
    expected = {"boxes": boxes[:, :4], "classes": labels, "confidence": boxes[:, 4]}
    one = {key: found[key][0] for key in expected}
    assert_same_detections(one, expected, score=1e-4, pixels=0.1, threshold=boxes[-1, 4])
