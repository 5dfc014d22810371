from operator import attrgetter

import keras
import numpy as np
import pytest
from common import (
    assert_same_detections,
    copy_of,
    pairwise_iou,
    random_batch,
    small_model,
    to_numpy,
    truth_of,
)

import keras_gflv2
from keras_gflv2.checkpoints import load_checkpoint
from keras_gflv2.checkpoints.mmdetection import name_map
from keras_gflv2.postprocessing import PredictionDecoder

# TensorFlow would spend most of the time tracing steps that run once; JAX is slower untraced.
RUN_EAGERLY = keras.backend.backend() == "tensorflow"
EAGER = {"optimizer": "adam", "run_eagerly": RUN_EAGERLY}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(keras.tree.flatten(a), keras.tree.flatten(b)))


@pytest.fixture(scope="module")
def stepwise(trained):
    """The trained detector without graphs: each would serve for one size of image."""
    model = copy_of(trained[0])
    model.compile(**EAGER)
    return model


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


@pytest.mark.parametrize("box_format", ["xywh", "center_xywh", "rel_yxyx", "rel_xywh"])
def test_the_box_format_changes_neither_loss_nor_detections(box_format, trained, stepwise):
    model, batch = trained
    other = small_model(bounding_box_format=box_format)
    other.set_weights(model.get_weights())
    other.compile(**EAGER)
    boxes = dict(batch["bounding_boxes"])
    size = dict(zip(("height", "width"), batch["images"].shape[1:3]))
    convert = keras.utils.bounding_boxes.convert_format
    boxes["boxes"] = to_numpy(convert(boxes["boxes"], source="xyxy", target=box_format, **size))
    ours = stepwise.evaluate(batch, verbose=0)
    theirs = other.evaluate(batch["images"], boxes, verbose=0)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4)
    expected = stepwise.predict(batch["images"], verbose=0)
    found = other.predict(batch["images"], verbose=0)
    back = to_numpy(convert(found["boxes"], source=box_format, target="xyxy", **size))
    present = expected["classes"] >= 0
    assert present.any()
    np.testing.assert_allclose(back[present], expected["boxes"][present], atol=1e-2)
    assert np.all(found["boxes"][~present] == -1)


def test_training_finds_the_boxes_that_it_was_shown(trained):
    """Each object by one detection that is sure of it, and nothing else with such confidence."""
    model, batch = trained
    found = model.predict(batch["images"], verbose=0)
    assert found["boxes"].shape == (2, 100, 4) and found["num_detections"].shape == (2,)
    for i in range(2):
        boxes, classes = truth_of(batch, i)
        sure = found["confidence"][i] > 0.4
        assert sure.sum() == len(boxes) == 2
        iou = pairwise_iou(boxes, found["boxes"][i][sure])
        hits = (iou > 0.7) & (classes[:, None] == found["classes"][i][sure])
        assert np.all(hits.sum(0) == 1) and np.all(hits.sum(1) == 1)


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


@pytest.mark.parametrize("size", [(32, 32), (100, 67), (33, 161)])
def test_any_image_size_works_in_one_model(size, stepwise):
    model = stepwise
    batch = random_batch(size=size)
    outputs = to_numpy(model(batch["images"]))
    padded = [-(-s // 32) * 32 for s in size]
    locations = sum(-(-padded[0] // s) * -(-padded[1] // s) for s in (8, 16, 32, 64, 128))
    assert outputs["scores"].shape == (2, locations, 3)
    assert outputs["box_distributions"].shape == (2, locations, 4, 17)
    assert np.isfinite(model.evaluate(batch, verbose=0, return_dict=True)["loss"])
    boxes = model.predict(batch["images"], verbose=0)
    present = boxes["boxes"][boxes["classes"] >= 0]
    assert np.all((present >= 0) & (present <= [size[1], size[0]] * 2))


def test_an_image_is_detected_beside_others_as_if_alone(trained, stepwise):
    """Padded to the same canvas; what it shares the canvas with is not in its detections."""
    images, sizes = trained[1]["images"], np.array([[96, 128], [90, 120]])
    canvas = np.zeros((2, 128, 160, 3), "float32") + stepwise.padding_color
    for i, (height, width) in enumerate(sizes):
        canvas[i, :height, :width] = images[i, :height, :width]

    def detections(rows):
        inputs = {"images": canvas[rows], "image_sizes": sizes[rows]}
        return stepwise.predict(inputs, verbose=0)

    together, swapped = detections([0, 1]), detections([1, 0])
    for i in (0, 1):
        (alone,) = rows_of(detections([i]))
        assert alone["num_detections"] > 1
        for beside in (rows_of(together)[i], rows_of(swapped)[1 - i]):
            assert_same_detections(beside, alone, score=1e-5, pixels=1e-3)
        # The padding is close to some locations, but the objects are found through it.
        boxes, classes = truth_of(trained[1], i)
        iou = pairwise_iou(boxes, alone["boxes"]) * (classes[:, None] == alone["classes"])
        assert np.all(iou.max(1) > 0.6)
    with pytest.raises(AssertionError, match="found alone"):
        assert_same_detections(*rows_of(together))  # of two images


def test_detections_end_where_the_image_ends(trained, stepwise):
    images, limits = trained[1]["images"], [80, 60, 80, 60]
    whole = stepwise.predict(images, verbose=0)
    cut = stepwise.predict({"images": images, "image_sizes": np.array([[60, 80]] * 2)}, verbose=0)
    present = cut["classes"] >= 0
    assert present.any(axis=1).all()
    assert np.all((cut["boxes"][present] >= 0) & (cut["boxes"][present] <= limits))
    assert (whole["boxes"][whole["classes"] >= 0] > limits).any()


def rows_of(found):
    """`predict`'s dictionary image by image."""
    return [{key: values[i] for key, values in found.items()} for i in range(len(found["boxes"]))]


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


def test_saving_and_loading_changes_nothing(trained, tmp_path):
    model, batch = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.class_names == ["a", "b", "c"]
    loaded.run_eagerly = RUN_EAGERLY
    found = loaded.predict(batch["images"], verbose=0)
    assert_same_detections(found, model.predict(batch["images"], verbose=0), 1e-4, 0.01)
    for variables in ("variables", "optimizer.variables"):
        ours, theirs = (attrgetter(variables)(m) for m in (loaded, model))
        assert len(ours) > 10 and same(to_numpy(ours), to_numpy(theirs))
    loaded.fit(batch["images"], batch["bounding_boxes"], verbose=0)
    steps = [int(to_numpy(m.optimizer.iterations)) for m in (model, loaded)]
    assert steps[1] == steps[0] + 1  # the optimizer's state came along
    loaded.save_to_preset(tmp_path / "preset")
    preset = keras_gflv2.GFLV2.from_preset(tmp_path / "preset")
    assert preset.class_names == ["a", "b", "c"] and preset.image_size == (96, 128)
    assert same(preset.get_weights(), loaded.get_weights())
    scores = [to_numpy(m(batch["images"])["scores"]) for m in (preset, loaded)]
    np.testing.assert_allclose(*scores, atol=1e-6)


def test_a_preset_in_half_precision_is_half_as_large_and_rounded(trained, tmp_path):
    model, _ = trained
    sizes = {}
    for dtype in (None, "float16"):
        folder = tmp_path / str(dtype)
        model.save_to_preset(folder, weights_dtype=dtype)
        sizes[dtype] = (folder / "model.weights.h5").stat().st_size
    assert sizes["float16"] < 0.8 * sizes[None]
    # The weights alone: the state of Adam is twice as large again.
    overhead = 4096 * len(model.weights)
    assert sizes[None] < 4 * model.count_params() + overhead
    copy = keras_gflv2.GFLV2.from_preset(tmp_path / "float16")
    for old, new in zip(model.weights, copy.weights):
        expected = to_numpy(old).astype("float16").astype("float32")
        np.testing.assert_array_equal(to_numpy(new), expected)


def test_a_preset_can_be_fine_tuned_for_other_classes(trained, tmp_path):
    model, _ = trained
    model.save_to_preset(tmp_path)
    other = keras_gflv2.GFLV2.from_preset(tmp_path, num_classes=7, bounding_box_format="xywh")
    assert other.num_classes == 7 and other.class_names is None
    kept = [
        np.array_equal(to_numpy(a), to_numpy(b))
        for a, b in zip(model.variables, other.variables)
        if a.shape == b.shape
    ]
    assert all(kept) and len(kept) == len(model.variables) - 2
    fresh = keras_gflv2.GFLV2.from_preset(tmp_path, load_weights=False)
    assert not same(fresh.get_weights(), model.get_weights())
    with pytest.raises(ValueError, match="neither a built-in preset"):
        keras_gflv2.GFLV2.from_preset("no_such_preset")


def test_detect_maps_boxes_back_to_each_image(trained, stepwise):
    image = np.round(trained[1]["images"][0]).astype("uint8")
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    small, twice, blank = stepwise.detect(
        [image, large, np.zeros((40, 50, 3), "uint8")], score_threshold=0.1
    )
    assert len(small["boxes"]) > 0
    assert small["boxes"].shape == small["uncertainties"].shape == (len(small["classes"]), 4)
    assert small["class_names"] == [["a", "b", "c"][c] for c in small["classes"]]
    assert np.all(small["confidence"] > 0.1) and np.all(small["uncertainties"] > 0)
    assert blank["boxes"].shape[1:] == (4,)
    predicted = stepwise.predict(np.float32(image)[None], verbose=0)
    (expected,) = rows_of(predicted)
    assert_same_detections(small, expected, 1e-5, 1e-3, threshold=0.1)
    # The same objects at twice the size, in the pixels of that image.
    boxes, _ = truth_of(trained[1], 0)
    for found, factor in ((small, 1), (twice, 2)):
        assert np.all(pairwise_iou(boxes * factor, found["boxes"]).max(1) > 0.6)


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
