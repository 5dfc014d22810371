"""GFLV2 in training: its data and losses, the backbones that fit, and what is refused."""

import keras
import numpy as np
import pytest
from common import random_batch, small_model, to_numpy

import keras_gflv2
from keras_gflv2.checkpoints import load_checkpoint
from keras_gflv2.checkpoints.mmdetection import name_map
from keras_gflv2.postprocessing import PredictionDecoder

# TensorFlow would spend most of the time tracing steps that run once; JAX is slower untraced.
RUN_EAGERLY = keras.backend.backend() == "tensorflow"
EAGER = {"optimizer": "adam", "run_eagerly": RUN_EAGERLY}


def test_every_way_to_pass_data_gives_the_same_loss(compiled):
    batch = random_batch()
    boxes = batch["bounding_boxes"]
    labels = {"boxes": boxes["boxes"], "labels": boxes["classes"]}
    ways = ((batch,), (batch["images"], boxes), (batch["images"], labels))
    logs = [compiled.evaluate(*data, verbose=0, return_dict=True) for data in ways]
    assert set(logs[0]) == {"loss", "classification_loss", "box_loss", "distribution_loss"}
    assert logs[1] == pytest.approx(logs[0], rel=1e-6)
    assert logs[2] == pytest.approx(logs[0], rel=1e-6)
    parts = [v for k, v in logs[0].items() if k != "loss"]
    assert logs[0]["loss"] == pytest.approx(sum(parts), rel=1e-5)


@pytest.mark.filterwarnings("error:The structure of")
def test_fit_on_a_dictionary_gives_no_warning_about_its_structure():
    model = small_model()
    model.compile(**EAGER)
    model.fit(random_batch(), verbose=0)


def test_a_batch_without_objects_still_teaches_the_background():
    batch = random_batch()
    batch["bounding_boxes"]["classes"][:] = -1
    batch["bounding_boxes"]["boxes"][:] = np.nan  # values of padding mean nothing
    model = small_model()
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=RUN_EAGERLY)
    before = to_numpy(model(batch["images"], training=False)["scores"]).mean()
    logs = model.fit(batch, epochs=3, verbose=0).history
    assert logs["box_loss"] == logs["distribution_loss"] == [0.0] * 3
    assert np.all(np.isfinite(logs["loss"])) and logs["classification_loss"][0] > 0
    assert all(np.all(np.isfinite(w)) for w in model.get_weights())
    assert to_numpy(model(batch["images"], training=False)["scores"]).mean() < before


def test_an_image_without_objects_beside_one_with():
    batch = random_batch()
    batch["bounding_boxes"]["classes"][1] = -1
    model = small_model()
    model.compile(**EAGER)
    assert np.all(np.isfinite(model.fit(batch, epochs=2, verbose=0).history["loss"]))


def test_ignored_boxes_leave_the_loss(compiled):
    batch = random_batch(boxes=2)  # one box an image, one padding
    batch["bounding_boxes"]["boxes"][:] = [0, 0, 128, 96]  # most anchors lie inside
    with_none = {**batch, "bounding_boxes": dict(batch["bounding_boxes"])}
    with_none["bounding_boxes"]["classes"] = np.full((2, 2), -1)
    batch["bounding_boxes"]["ignored"] = (batch["bounding_boxes"]["classes"] >= 0).astype("int32")
    ignored = compiled.evaluate(batch, verbose=0, return_dict=True)
    empty = compiled.evaluate(with_none, verbose=0, return_dict=True)
    assert ignored["box_loss"] == empty["box_loss"] == 0.0
    assert 0 < ignored["classification_loss"] < empty["classification_loss"]


def test_quality_is_left_out_of_gflv1():
    model = small_model(quality_statistics=())
    assert model.head.quality_predictor is None
    class_logits = model.head.classification_conv.bias
    scores = to_numpy(model(random_batch()["images"])["scores"])
    prior = 1 / (1 + np.exp(-to_numpy(class_logits)[0]))
    np.testing.assert_allclose(scores.mean(), prior, rtol=0.1)  # 0.01, not halved by a quality
    assert keras_gflv2.GFLV2.from_config(model.get_config()).quality_statistics == ()


def test_only_gflv1_has_logits_to_train():
    """A score of almost 1 has no digits in float32 that its loss could be taken of."""
    loss = keras_gflv2.losses.QualityFocalLoss(from_logits=True)
    with pytest.raises(ValueError, match="from_logits"):
        small_model().compile("sgd", classification_loss=loss)
    model = small_model(quality_statistics=())
    batch = random_batch(size=(64, 64))
    histories = []
    for classification_loss in (None, loss, keras_gflv2.losses.QualityFocalLoss()):
        model.compile("sgd", classification_loss, run_eagerly=RUN_EAGERLY)
        histories.append(model.evaluate(batch, verbose=0, return_dict=True))
    assert histories[1] == pytest.approx(histories[0], rel=1e-6)  # its default
    assert histories[2] == pytest.approx(histories[0], rel=1e-5)


def test_losses_optimizer_and_decoder_can_be_replaced():
    batch = random_batch()
    model = small_model(prediction_decoder=PredictionDecoder(max_detections=7))
    model.compile(
        keras.optimizers.SGD(0.01),
        run_eagerly=RUN_EAGERLY,
        classification_loss=keras.losses.BinaryFocalCrossentropy(),
        box_loss=lambda y_true, y_pred: keras.ops.mean(keras.ops.absolute(y_true - y_pred), -1),
        loss_weights={"distribution": 0.0},
    )
    logs = model.fit(batch, verbose=0).history
    assert logs["distribution_loss"] == [0.0] and np.isfinite(logs["loss"][0])
    assert model.predict(batch["images"], verbose=0)["boxes"].shape == (2, 7, 4)


def test_compile_alone_is_the_papers_recipe():
    model = small_model()
    model.compile()
    optimizer = model.optimizer
    assert (optimizer.momentum, optimizer.l2) == (0.9, 1e-4)
    rate = optimizer.get_config()["learning_rate"]["config"]
    assert (rate["peak"], rate["warmup_steps"], rate["warmup_ratio"]) == (0.01, 500, 0.001)


def test_frozen_stages_do_not_change():
    backbone = keras_gflv2.backbones.ResNet(18, base_channels=8, frozen_stages=1)
    model = small_model(backbone=backbone)
    before = {v.path: to_numpy(v) for v in backbone.variables}
    batch = random_batch()
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=RUN_EAGERLY)
    model.fit(batch, verbose=0)
    changed = {
        k
        for k, v in before.items()
        if not np.array_equal(v, to_numpy(next(x for x in backbone.variables if x.path == k)))
    }
    frozen = {k for k in before if k.startswith(("conv1/", "bn1/", "layer1_"))}
    moving = {k for k in before if "moving_" in k}
    assert changed == set(before) - frozen - moving  # running statistics stay, affine trains


def test_a_backbone_with_channels_first_is_refused():
    x = images = keras.Input((3, None, None))
    outputs = {}
    for level in range(1, 6):
        x = keras.layers.Conv2D(8, 3, 2, "same", data_format="channels_first")(x)
        outputs[f"P{level}"] = x
    with pytest.raises(ValueError, match=r"channels last.*set_image_data_format"):
        small_model(backbone=keras.Model(images, outputs))


def test_a_keras_cv_backbone_fits():
    keras_cv = pytest.importorskip("keras_cv")
    backbone = keras_cv.models.CSPDarkNetBackbone(
        stackwise_channels=[16, 16, 16, 16], stackwise_depth=[1, 1, 1, 1], include_rescaling=True
    )
    outputs = small_model(backbone=backbone)(random_batch()["images"])
    assert outputs["scores"].shape == (2, 257, 3)


def test_a_keras_hub_backbone_fits():
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 16, 16, 16],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )
    outputs = small_model(backbone=backbone)(random_batch()["images"])
    assert outputs["scores"].shape == (2, 257, 3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"classes": [[5, 0, -1]] * 2}, "Class ids must be 0..2"),
        ({"classes": [[0.5, 0, -1]] * 2}, "Class ids must be 0..2"),
        ({"boxes": np.full((2, 3, 4), np.nan, "float32")}, "NaN"),
        ({"boxes": np.full((2, 3, 4), 0.5, "float32")}, "look relative"),
        ({"boxes": np.float32([[[50, 50, 20, 80]] * 3] * 2)}, "no area"),
        ({"boxes": np.zeros((2, 3), "float32")}, "must have the shape"),
        ({"classes": None}, "'classes'"),
    ],
)
def test_boxes_that_cannot_be_meant_are_refused(change, message, compiled):
    batch = random_batch()
    boxes = {**batch["bounding_boxes"], **change}
    boxes = {k: np.asarray(v) for k, v in boxes.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        compiled.fit(batch["images"], boxes, verbose=0)


def test_pixels_where_relative_boxes_are_expected_are_refused():
    batch = random_batch()
    model = small_model(bounding_box_format="rel_xyxy")
    model.compile(**EAGER)
    with pytest.raises(ValueError, match="look like pixels"):
        model.fit(batch, verbose=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"bounding_box_format": "xxyy"}, "bounding_box_format"),
        ({"num_classes": 0}, "num_classes"),
        ({"class_names": ["a"]}, "class_names"),
        ({"head_norm_groups": 5}, "norm_groups"),
    ],
)
def test_arguments_that_make_no_detector_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_model(**arguments)


def test_a_backbone_without_pyramid_outputs_is_refused():
    inputs = keras.Input((None, None, 3))
    with pytest.raises(ValueError, match="P3, P4 and P5"):
        keras_gflv2.GFLV2(keras.Model(inputs, inputs * 2), 3)


def test_compile_refuses_a_single_loss_and_sample_weights(compiled):
    with pytest.raises(ValueError, match="classification_loss"):
        small_model().compile(loss="mse")
    batch = random_batch()
    with pytest.raises(ValueError, match="sample_weight"):
        compiled.fit(batch["images"], batch["bounding_boxes"], sample_weight=np.ones(2), verbose=0)


def test_a_checkpoint_must_fit_exactly():
    model = small_model(backbone=keras_gflv2.backbones.ResNet(18, base_channels=8))
    arrays = {}
    for key, variable in name_map(model):
        value = to_numpy(variable) + 1.0
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T[:, :, None, None]
        arrays[key] = value
    load_checkpoint(model, {**arrays, "bbox_head.integral.project": np.arange(17)})
    for key, variable in name_map(model):
        value = load_value(arrays[key], variable)
        np.testing.assert_array_equal(to_numpy(variable), value)
    missing = dict(arrays)
    missing.pop("bbox_head.gfl_reg.bias")
    with pytest.raises(ValueError, match=r"missing: bbox_head\.gfl_reg\.bias"):
        load_checkpoint(model, missing)
    with pytest.raises(ValueError, match="left over: extra"):
        load_checkpoint(model, {**arrays, "extra": np.zeros(3)})
    with pytest.raises(ValueError, match=r"shape of backbone\.conv1\.weight"):
        load_checkpoint(model, {**arrays, "backbone.conv1.weight": np.zeros((8, 3, 3, 3))})


def load_value(value, variable):
    if value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    return value[0, 0] if len(variable.shape) == 2 else value
