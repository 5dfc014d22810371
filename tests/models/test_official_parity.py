"""Training against the official implementation: head losses and a trajectory of whole steps."""

import json
import sys

import keras
import numpy as np
import pytest
from common import GOLDEN, assert_same_detections, golden, nchw, to_numpy
from head_golden import CASES, case_arrays, features, load_head

import keras_gflv2
from keras_gflv2.checkpoints import load_checkpoint
from keras_gflv2.recipes import SGDWithL2


def head_only_model(data):
    """A GFLV2 whose loss is computed on the golden head's outputs."""
    model = keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(18, base_channels=4),
        num_classes=6,
        fpn_channels=16,
        head_channels=32,
        head_norm_groups=int(data["num_groups"]),
        prediction_decoder=keras_gflv2.postprocessing.PredictionDecoder(
            pre_nms_topk=100, max_detections=30
        ),
    )
    model.compile()
    # One golden case has an image that is padded to less than a multiple of 32.
    model.assigner = keras_gflv2.assigners.ATSSAssigner(size_multiple=1)
    return model


def golden_targets(data):
    boxes, classes = np.zeros((2, 8, 4), "float32"), np.full((2, 8), -1, "int32")
    for k in range(2):
        count = len(data[f"gt_labels_{k}"])
        boxes[k, :count] = data[f"gt_bboxes_{k}"]
        classes[k, :count] = data[f"gt_labels_{k}"]
    return {"boxes": boxes, "classes": classes, "image_sizes": data["pad_shape"]}


@pytest.mark.parametrize("case", CASES)
def test_losses_on_the_head_equal_the_official_ones(case):
    data = case_arrays(case)
    model = head_only_model(data)
    head = load_head(data, model.head)
    images = np.zeros((2, 128, 160, 3), "float32")
    total = model.compute_loss(images, golden_targets(data), head(features(data)))
    logs = {k: float(v) for k, v in model.get_metrics_result().items()}
    official = {
        "classification_loss": data["loss_cls"].sum(),
        "box_loss": np.nan_to_num(data["loss_bbox"]).sum(),  # the official NaN of 0 / 0 is our 0
        "distribution_loss": np.nan_to_num(data["loss_dfl"]).sum(),
    }
    for name, value in official.items():
        assert logs[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name
    assert float(total) == pytest.approx(sum(official.values()), rel=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_detections_of_the_head_equal_the_official_ones(case):
    data = case_arrays(case)
    model = head_only_model(data)
    outputs = load_head(data, model.head)(features(data))
    found = to_numpy(
        model.decode_predictions(outputs, np.zeros((2, 128, 160, 3)), data["img_shape"])
    )
    for k in range(2):
        boxes = data[f"det_bboxes_{k}"]
        labels, scores = data[f"det_labels_{k}"], boxes[:, 4]
        official = {"boxes": boxes[:, :4], "classes": labels, "confidence": scores}
        one = {key: values[k] for key, values in found.items()}
        assert one.pop("num_detections") == len(boxes)
        assert_same_detections(one, official, score=1e-5, pixels=2e-3)


def trajectory_state(v1=False):
    """The official detector's weights before the run; GFLV1 has no quality and no background."""
    sys.path.insert(0, str(GOLDEN))
    try:
        import weights_rule
    finally:
        sys.path.pop(0)
    official = golden("gfocal_gn8.npz")
    shapes = json.loads(str(official["state_shapes_json"]))
    if v1:
        shapes = {k: shape for k, shape in shapes.items() if "reg_conf" not in k}
        for name in ("weight", "bias"):
            shapes[f"bbox_head.gfl_cls.{name}"][0] = 3
    state = {k: weights_rule.value(k, shape, basic_block=True) for k, shape in shapes.items()}
    return state, official


def trajectory_model(v1=False):
    state, official = trajectory_state(v1)
    model = keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(18, pixel_mean=(127.5,) * 3, pixel_std=(64.0,) * 3),
        # Four: GFLV2's official background channel is a class that never occurs.
        num_classes=3 if v1 else 4,
        fpn_channels=64,
        head_channels=64,
        head_depth=2,
        head_norm_groups=8,
        quality_statistics=() if v1 else ("topk", "mean"),
    )
    return load_checkpoint(model, state), official


def trajectory_batch(step):
    data = golden("batches.npz")
    k = step % 6
    boxes, classes = np.zeros((2, 8, 4), "float32"), np.full((2, 8), -1, "int32")
    for i in range(2):
        count = len(data[f"labels_{k}_{i}"])
        boxes[i, :count], classes[i, :count] = data[f"boxes_{k}_{i}"], data[f"labels_{k}_{i}"]
    return data[f"images_{k}"].astype("float32"), {"boxes": boxes, "classes": classes}


LOSSES = {
    "loss_cls": "classification_loss",
    "loss_bbox": "box_loss",
    "loss_dfl": "distribution_loss",
}


def trained(model, official, steps):
    """Our losses of each step, by their official names."""
    model.compile(SGDWithL2(float(official["lr"]), momentum=0.9, l2=1e-4))
    logs = []
    for step in range(steps):
        model.reset_metrics()
        images, targets = trajectory_batch(step)
        logs.append(model.train_on_batch(images, targets, return_dict=True))
    return {key: np.array([float(log[name]) for log in logs]) for key, name in LOSSES.items()}


def reference_losses(v1, steps):
    """The same of the detector that is written a second time."""
    pytest.importorskip("torch")
    from reference_gfl import ReferenceDetector

    state, official = trajectory_state(v1)
    reference = ReferenceDetector(state, 3 if v1 else 4, 8, float(official["lr"]), 0.9, 1e-4)
    logs = []
    for step in range(steps):
        images, targets = trajectory_batch(step)
        count = (targets["classes"] >= 0).sum(axis=1)
        boxes, classes = (
            [values[:n] for values, n in zip(targets[name], count)] for name in ("boxes", "classes")
        )
        logs.append(reference.step((nchw(images) - 127.5) / 64, boxes, classes))
    return {key: np.array([log[key] for log in logs]) for key in LOSSES}


@pytest.mark.slow
def test_the_reference_follows_the_official_losses():
    """So it can be believed of GFLV1 too, of which `gfl_reference.npz` are its losses."""
    found, official = reference_losses(v1=False, steps=8), golden("gfocal_gn8.npz")
    for key in LOSSES:
        np.testing.assert_allclose(found[key], official[key][:8], rtol=2e-5, err_msg=key)
    found, recorded = reference_losses(v1=True, steps=8), golden("gfl_reference.npz")
    for key in LOSSES:
        np.testing.assert_allclose(found[key], recorded[key], rtol=1e-6, err_msg=key)


def test_training_of_gflv1_follows_the_reference():
    """Step 7 passes a kink: of eight runs of the reference whose pixels differ by 1e-7, one leaves
    the others at step 8 by 7.4e-3. So eight steps are followed."""
    model, official = trajectory_model(v1=True)
    ours, reference = trained(model, official, 8), golden("gfl_reference.npz")
    for key in LOSSES:
        np.testing.assert_allclose(ours[key], reference[key], rtol=2e-5, err_msg=key)


STEPS = 30
# On TensorFlow, whose steps are the quickest, to the end; elsewhere as far as the bounds are close.
LENGTHS = (
    [STEPS]
    if keras.backend.backend() == "tensorflow"
    else [11, pytest.param(STEPS, marks=pytest.mark.slow)]
)


@pytest.mark.parametrize("steps", LENGTHS)
def test_training_follows_the_official_losses(steps):
    model, official = trajectory_model()
    losses = trained(model, official, steps)
    for key, ours in losses.items():
        name = LOSSES[key]
        np.testing.assert_allclose(ours[:8], official[key][:8], rtol=1e-4, err_msg=name)
        # Step 7 passes a tie: two sorted probabilities of one side are 2.4e-7 apart, and the sort
        # decides whose gradient goes where. Also the official operations, in float32 and float64
        # on another processor, then leave the recorded run by 1.7e-4 at step 8; with the two
        # swapped by hand they follow it to 2e-6. So from there on the bounds are wider.
        np.testing.assert_allclose(ours[8:11], official[key][8:11], rtol=5e-4, err_msg=name)
        np.testing.assert_allclose(ours[11:], official[key][11:steps], rtol=0.1, err_msg=name)
    if steps < STEPS:
        return
    final = {key: float(value) for key, value in zip(official["state_keys"], official["final_l2"])}
    from keras_gflv2.checkpoints.mmdetection import name_map

    for key, variable in name_map(model):
        norm = float(np.linalg.norm(keras.ops.convert_to_numpy(variable)))
        assert norm == pytest.approx(final[key], rel=2e-3, abs=1e-3), key
