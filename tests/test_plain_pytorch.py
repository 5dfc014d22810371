"""The plain PyTorch detector that speed is compared with is the same detector as ours."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from common import assert_same_detections, random_batch, to_numpy, truth_of

import keras_gflv2
from keras_gflv2.checkpoints import load_checkpoint
from keras_gflv2.checkpoints.mmdetection import name_map
from keras_gflv2.recipes import SGDWithL2

torch = pytest.importorskip("torch")
NUM_CLASSES = 3


@pytest.fixture(scope="module")
def plain():
    """The module of benchmarks/."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    try:
        import plain_pytorch
    finally:
        sys.path.pop(0)
    return plain_pytorch


@pytest.fixture
def pair(plain):
    """Both detectors with the same weights, which make scores and boxes of all sizes."""
    torch.manual_seed(0)
    theirs = plain.build(NUM_CLASSES)
    with torch.no_grad():
        theirs.bbox_head.gfl_cls.weight.mul_(20)
        theirs.bbox_head.gfl_cls.bias.fill_(-1.0)
        theirs.bbox_head.gfl_reg.weight.mul_(20)
        for level, scale in enumerate(theirs.bbox_head.scales):
            scale.scale.fill_(1 + 0.1 * level)
        for layer in theirs.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.8, 1.2)
                layer.weight.uniform_(0.5, 1.0)
    ours = keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(50, frozen_stages=1), num_classes=NUM_CLASSES
    )
    return load_checkpoint(ours, arrays_of(theirs)), theirs


def arrays_of(model):
    return {name: value.detach().numpy().copy() for name, value in model.state_dict().items()}


def test_outputs_and_detections_are_ours(plain, pair):
    ours, theirs = pair
    images = random_batch(size=(96, 128))["images"]
    outputs = to_numpy(ours(images))
    scores, logits = (torch.cat(x, 1).numpy() for x in plain.network(theirs, images))
    np.testing.assert_allclose(scores, outputs["scores"], atol=2e-5)
    np.testing.assert_allclose(
        logits.reshape(*logits.shape[:2], 4, 17), outputs["box_distributions"], atol=1e-3
    )
    expected = ours.predict_on_batch(images)
    found = plain.detect(theirs, np.moveaxis(images, -1, 1))  # takes both layouts
    for i, (boxes, confidence, classes) in enumerate(found):
        assert len(boxes) == expected["num_detections"][i] > 20
        one = {"boxes": boxes, "classes": classes, "confidence": confidence}
        assert_same_detections(
            {key: value.numpy() for key, value in one.items()},
            {key: expected[key][i] for key in one},
            score=1e-4,
            pixels=0.01,
            threshold=float(confidence[-1]),
        )


def test_a_training_step_is_ours(plain, pair):
    ours, theirs = pair
    batch = random_batch(size=(96, 128), boxes=4)
    truth = [truth_of(batch, image) for image in range(2)]
    boxes, labels = ([torch.tensor(x[k]) for x in truth] for k in (0, 1))
    before = arrays_of(theirs)
    losses = plain.train_step(
        theirs, plain.make_optimizer(theirs), batch["images"], boxes, [x.long() for x in labels]
    )
    ours.compile(SGDWithL2(0.01, momentum=0.9, l2=1e-4))
    logs = ours.train_on_batch(batch["images"], batch["bounding_boxes"], return_dict=True)
    for name, value in losses.items():
        assert float(logs[f"{name}_loss"]) == pytest.approx(value, rel=1e-4), name
    after = arrays_of(theirs)
    num_trained = 0
    for name, variable in name_map(ours):
        value = to_official_layout(keras.ops.convert_to_numpy(variable), after[name].shape)
        scale = np.abs(after[name] - before[name]).max()
        num_trained += scale > 0
        np.testing.assert_allclose(value, after[name], atol=1e-3 * scale + 1e-6, err_msg=name)
    assert num_trained > 150


def test_an_image_without_boxes_trains(plain, pair):
    _, theirs = pair
    images = random_batch(batch=1)["images"]
    none = [torch.zeros((0, 4))], [torch.zeros(0, dtype=torch.long)]
    losses = plain.train_step(theirs, plain.make_optimizer(theirs), images, *none)
    assert losses["classification"] > 0 and losses["box"] == losses["distribution"] == 0


def to_official_layout(value, shape):
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value.T.reshape(shape) if value.ndim == 2 else value.reshape(shape)
