"""Whatever parts a detector is made of, it trains, predicts, and is saved like any other."""

import contextlib
import json

import keras
import numpy as np
import pytest
from common import (
    DETECTORS,
    assert_same_detections,
    random_batch,
    small_detector,
    to_numpy,
)

import keras_gflv2
from keras_gflv2.contract import unpack
from keras_gflv2.postprocessing import PredictionDecoder, TestTimeAugmentation
from keras_gflv2.targets import Targets

# TensorFlow would spend most of the time tracing steps that run once; JAX is slower untraced.
RUN_EAGERLY = keras.backend.backend() == "tensorflow"
# With -m slow also those whose parts others have.
USUAL = {"GFLV2", "ATSS", "FCOS", "FoveaBox", "RetinaNet", "guided RetinaNet", "sampled"}
# JAX compiles every step of every detector.
LEFT_OUT = set(DETECTORS) - (USUAL - {"sampled"} if keras.backend.backend() == "jax" else USUAL)
NAMES_OF_DETECTORS = [
    pytest.param(name, marks=pytest.mark.slow if name in LEFT_OUT else []) for name in DETECTORS
]
SIZE = (64, 96)
NAMES = ["a", "b", "c"]
DECODER = {"score_threshold": 0.1, "max_detections": 20}


def make(name, **kwargs):
    """A small detector, compiled, whose detections are spread over classes and scores."""
    arguments = {"class_names": NAMES, "image_size": SIZE, **kwargs}
    model = small_detector(name, prediction_decoder=PredictionDecoder(**DECODER), **arguments)
    rng = np.random.default_rng(0)
    for convolution in (model.head.classification_conv, model.head.regression_conv):
        kernel, bias = convolution.variables
        kernel.assign(rng.normal(size=kernel.shape) * np.sqrt(2 / np.prod(kernel.shape[:-1])))
        bias.assign(bias - bias - 1.0)
    model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), run_eagerly=RUN_EAGERLY)
    return model


@pytest.fixture(scope="module", params=NAMES_OF_DETECTORS)
def model(request):
    """One detector for all tests, which leave it as it was."""
    return make(request.param)


@pytest.fixture(scope="module")
def batch():
    return random_batch(size=SIZE)


@contextlib.contextmanager
def restored(model):
    """Within it the weights and the optimizer's state may change."""
    variables = [*model.variables, *model.optimizer.variables]
    before = to_numpy(variables)
    yield
    for variable, value in zip(variables, before):
        variable.assign(value)


def with_boxes(batch, **changes):
    return {**batch, "bounding_boxes": {**batch["bounding_boxes"], **changes}}


def losses(model, batch, outputs=None):
    """{name: weighted loss} of a batch, as `evaluate` has them."""
    images, targets = unpack(batch)
    outputs = model(images) if outputs is None else as_tensors(outputs)
    found, _ = model.losses_of_batch(model.criterion, images, targets, outputs)
    return {name: float(to_numpy(value)) for name, value in found.items()}


def as_tensors(outputs):
    return {name: keras.ops.convert_to_tensor(values) for name, values in outputs.items()}


def description(model):
    """The configuration as JSON, without that of the backbone, which is a model of Keras."""
    return json.loads(json.dumps({**model.get_config(), "backbone": None, "preset": None}))


def assert_same_weights(one, other):
    for a, b in zip(to_numpy(one), to_numpy(other), strict=True):
        np.testing.assert_array_equal(a, b)


# === Training ===


def test_dictionaries_and_datasets_teach_the_same(model, batch):
    tf = pytest.importorskip("tensorflow")
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(2)
    histories = []
    for data in (batch, dataset):
        model.optimizer.build(model.trainable_variables)
        with restored(model):
            histories.append(model.fit(data, batch_size=2, epochs=4, verbose=0).history)
    terms = {f"{name}_loss" for name in model.criterion.names}
    assert set(histories[0]) == {"loss", *terms}
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, rtol=1e-4)
    total = histories[0]["loss"]
    assert total[-1] < total[0]
    logs = model.evaluate(batch, verbose=0, return_dict=True)
    assert logs["loss"] == pytest.approx(total[0], rel=1e-4)
    assert logs["loss"] == pytest.approx(sum(losses(model, batch).values()), rel=1e-4)


def test_a_batch_without_objects_teaches_the_background(model, batch):
    """Values of padding mean nothing."""
    empty = with_boxes(batch, classes=np.full((2, 3), -1), boxes=np.full((2, 3, 4), np.nan))
    with restored(model):
        logs = model.fit(empty, batch_size=2, epochs=2, verbose=0).history
        assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())
    assert logs["classification_loss"][1] < logs["classification_loss"][0]
    for name in set(model.criterion.names) - {"classification"}:
        assert logs[f"{name}_loss"] == [0.0, 0.0]


def test_what_is_frozen_stays(model, batch):
    """Also in a detector that is made again from the configuration."""
    layers = [model.backbone, model.head.box_convs[0]]
    layers += [model.quality] if model.quality else []
    try:
        for layer in layers:
            layer.trainable = False
        frozen = [id(v) for layer in layers for v in layer.variables]
        again = type(model).from_config(model.get_config())
        assert [v.trainable for v in again.weights] == [v.trainable for v in model.weights]
        model.compile("sgd", run_eagerly=RUN_EAGERLY)
        before = to_numpy(model.variables)
        if RUN_EAGERLY:  # a step of its own to compile elsewhere, where `trainable` means the same
            model.fit(batch, batch_size=2, verbose=0)
        changed = {
            id(variable)
            for variable, old in zip(model.variables, before)
            if not np.array_equal(old, to_numpy(variable))
        }
        assert not changed & set(frozen)
        assert not RUN_EAGERLY or len(changed) > 10
    finally:
        for layer in layers:
            layer.trainable = True
        for variable, old in zip(model.variables, before):
            variable.assign(old)
        model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), run_eagerly=RUN_EAGERLY)


def test_ignored_boxes_leave_the_loss(model, batch):
    """Their locations are neither objects nor background; others still are background."""
    boxes = np.zeros((2, 3, 4), "float32") + [-40, -40, 60, 104]
    one = with_boxes(batch, boxes=boxes, classes=np.int32([[0, -1, -1]] * 2))
    empty = losses(model, with_boxes(one, classes=np.full((2, 3), -1)))
    ignored = with_boxes(one, ignored=np.int32([[1, 0, 0]] * 2))
    found = losses(model, ignored)
    assert all(value == 0 for name, value in found.items() if name != "classification")
    assert 0 < found["classification"] < empty["classification"]
    # What is predicted inside of one does not count.
    targets = Targets.from_batch(ignored["bounding_boxes"], "xyxy", batch["images"])
    at = model.grid(*SIZE)
    hidden = ~to_numpy(model.assigner(targets, at).valid)
    points, strides = to_numpy(at.points), to_numpy(at.strides)[:, 0]
    assert hidden[:, (strides == 8) & (points[:, 0] < 16)].any()
    assert not hidden[:, points[:, 0] > 80].any()
    changed = disturb(to_numpy(model(batch["images"])), hidden)
    assert losses(model, ignored, changed) == pytest.approx(found, rel=1e-5)


def test_beyond_an_image_nothing_counts(model, batch):
    """Images of different sizes in one batch, each padded to a multiple of 32."""
    sizes = np.int32([[64, 96], [30, 40]])
    boxes = np.float32([[[8, 8, 60, 60]] * 3, [[2, 2, 30, 28]] * 3])
    cut = with_boxes(batch, boxes=boxes, image_sizes=sizes)
    at = model.grid(*SIZE)
    corners = to_numpy(at.points - at.strides * model.grid.offset)  # of the cells
    beyond = np.any(corners[None] >= -(-sizes[:, None, ::-1] // 32) * 32, axis=-1)
    assert beyond[1].any() and not beyond[0].any()
    outputs = to_numpy(model(batch["images"]))
    found = losses(model, cut, outputs)
    assert losses(model, cut, disturb(outputs, beyond)) == pytest.approx(found, rel=1e-5)
    whole = with_boxes(batch, boxes=boxes)
    assert losses(model, whole, outputs)["classification"] != found["classification"]


def disturb(outputs, where):
    """Other outputs at some locations (B, A)."""
    changed = {}
    for name, values in outputs.items():
        mask = where.reshape(*where.shape, *[1] * (values.ndim - 2))
        changed[name] = np.where(mask, 0.5, values)
    return changed


def test_losses_can_be_replaced_and_weighted(model, batch):
    terms = model.criterion.names
    before = losses(model, batch)
    with pytest.raises(ValueError, match=r"loss_weights.*\['angle'\]"):
        model.compile("sgd", loss_weights={"angle": 1.0})
    for name in {"box", "distribution", "quality"} - set(terms):
        with pytest.raises(ValueError, match=rf"`{name}_loss` has no place in this"):
            model.compile("sgd", **{f"{name}_loss": keras.losses.Huber()})
    try:
        model.compile("sgd", box_loss="huber", loss_weights={"classification": 0.5})
        criterion = model._trained_criterion
        images, targets = unpack(batch)
        found = model.losses_of_batch(criterion, images, targets, model(images))[0]
        found = {name: float(to_numpy(value)) for name, value in found.items()}
        assert found.pop("classification") == pytest.approx(before["classification"] / 2, rel=1e-5)
        assert np.isfinite(found["box"]) and found["box"] != before["box"]
        assert {k: v for k, v in found.items() if k != "box"} == pytest.approx(
            {k: before[k] for k in found if k != "box"}, rel=1e-5
        )
    finally:
        model.compile(keras.optimizers.SGD(1e-4, momentum=0.9), run_eagerly=RUN_EAGERLY)


# === Detections ===


def test_detections_have_one_form(model, batch):
    found = model.predict(batch["images"], verbose=0)
    shapes = {name: values.shape for name, values in found.items()}
    sides = ["boxes", "uncertainties"] if "box_distributions" in model.output else ["boxes"]
    others = {"classes": (2, 20), "confidence": (2, 20), "num_detections": (2,)}
    assert shapes == {**dict.fromkeys(sides, (2, 20, 4)), **others}
    present = found["classes"] >= 0
    assert np.array_equal(present.sum(1), found["num_detections"]) and present.any(1).all()
    if "uncertainties" in found:
        assert np.all((found["uncertainties"] > 0) == present[..., None])
        assert np.all(found["uncertainties"][~present] == -1)
    assert np.all(found["boxes"][~present] == -1) and np.all(found["confidence"][~present] == -1)
    boxes = found["boxes"][present]
    assert np.all((boxes >= 0) & (boxes <= [SIZE[1], SIZE[0]] * 2))


def test_photos_of_any_size(model, batch):
    photo = np.round(batch["images"][0]).astype("uint8")
    wide = np.concatenate([photo, photo[:, :33]], axis=1)
    found, other = model.detect([photo, wide], score_threshold=0.1, image_size=(64, 200))
    for one, width in ((found, 96), (other, 129)):
        assert len(one["boxes"]) > 0 and set(one["class_names"]) <= set(NAMES)
        assert np.all((one["boxes"] >= 0) & (one["boxes"] <= [width, 64] * 2))
    has_distributions = "box_distributions" in model.output
    assert ("uncertainties" in found) == has_distributions
    if has_distributions:
        assert found["uncertainties"].shape == found["boxes"].shape
        assert np.all(found["uncertainties"] > 0)
    images = np.float32(photo)[None]
    expected = to_numpy(model.decode_predictions(model(images), images))
    expected = {name: values[0] for name, values in expected.items()}
    assert_same_detections(found, expected, 1e-4, 0.02, threshold=DECODER["score_threshold"])


def test_the_mirror_image_has_mirrored_detections(model, batch):
    views = TestTimeAugmentation(model, scales=(1.0,), flips=True)
    images = batch["images"][:1]
    found, mirrored = (to_numpy(views(x)) for x in (images, images[:, :, ::-1].copy()))
    present = found["classes"] >= 0
    assert present.any()
    width = images.shape[2]
    boxes = np.stack([width, 0, width, 0] - found["boxes"][..., [2, 1, 0, 3]], 0)
    boxes = boxes * [1, -1, 1, -1]
    found = {**found, "boxes": np.where(present[..., None], boxes, -1)}
    if "uncertainties" in found:
        found["uncertainties"] = found["uncertainties"][..., [2, 1, 0, 3]]
    last = found["confidence"][present].min()
    # FoveaBox ends images a pixel before their right edge, but not after the left one.
    pixels = 0.05 + model.representation.edge
    assert_same_detections(mirrored, found, 1e-4, pixels, threshold=last)


@pytest.mark.parametrize("box_format", ["xywh", "center_xywh", "rel_yxyx"])
@pytest.mark.parametrize("name", ["FCOS", "RetinaNet"])
def test_the_box_format_changes_nothing(name, box_format, batch):
    model, other = make(name), make(name, bounding_box_format=box_format)
    convert = keras.utils.bounding_boxes.convert_format
    size = dict(zip(("height", "width"), SIZE))
    boxes = batch["bounding_boxes"]["boxes"]
    theirs = with_boxes(
        batch, boxes=to_numpy(convert(boxes, source="xyxy", target=box_format, **size))
    )
    outputs = model(batch["images"])
    ours = losses(model, batch, outputs)
    assert losses(other, theirs, outputs) == pytest.approx(ours, rel=1e-4)
    if RUN_EAGERLY:  # through the door of `fit`, too
        logs = other.evaluate(theirs, verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(sum(ours.values()), rel=1e-4)
    expected, found = (
        to_numpy(m.decode_predictions(outputs, batch["images"])) for m in (model, other)
    )
    back = to_numpy(convert(found["boxes"], source=box_format, target="xyxy", **size))
    present = expected["classes"] >= 0
    assert present.any()
    np.testing.assert_allclose(back[present], expected["boxes"][present], atol=1e-2)
    assert np.all(found["boxes"][~present] == -1)


@pytest.mark.parametrize("name", ["ATSS", "FCOS", "plain FCOS"])
def test_class_probabilities_choose_the_candidates(name, batch):
    """Of detectors with a branch of quality: the joint score may be below the threshold."""
    model = make(name)
    outputs = to_numpy(model(batch["images"]))
    outputs["class_logits"] = np.full_like(outputs["class_logits"], -9.0)
    outputs["class_logits"][:, 5, 1] = 0.0  # a probability of a half
    outputs["centerness"] = np.full_like(outputs["centerness"], -4.0)
    outputs = as_tensors(outputs)
    scores = keras.ops.sigmoid(outputs["class_logits"])
    scores = scores * keras.ops.sigmoid(outputs["centerness"])[..., None]
    found = model.decode_predictions({**outputs, "scores": scores}, batch["images"])
    found = to_numpy(found)
    assert found["num_detections"].tolist() == [1, 1] and found["classes"][0, 0] == 1
    np.testing.assert_allclose(found["confidence"][:, 0], 0.5 / (1 + np.exp(4)), rtol=1e-5)
    assert found["confidence"][0, 0] < DECODER["score_threshold"]


# === Saving ===


def test_files_keep_everything(model, batch, tmp_path):
    images = batch["images"]
    with restored(model):
        model.fit(batch, batch_size=2, verbose=0)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(model)
        assert description(loaded) == description(model)
        assert_same_weights(loaded.variables, model.variables)
        assert_same_weights(loaded.optimizer.variables, model.optimizer.variables)
        expected, found = to_numpy(model(images)), to_numpy(loaded(images))
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_presets_keep_everything_and_take_other_classes(model, batch, tmp_path, capsys):
    model.save_to_preset(tmp_path / "preset")
    copy = type(model).from_preset(tmp_path / "preset")
    assert description(copy) == description(model)
    assert_same_weights(copy.variables, model.variables)
    assert type(keras_gflv2.DenseDetector.from_preset(tmp_path / "preset")) is type(model)

    other = type(model).from_preset(tmp_path / "preset", class_names=["new", "c", "a", "more"])
    classifier = {id(v) for v in model.head.classification_conv.variables}
    for ours, theirs in zip(model.variables, other.variables, strict=True):
        if id(ours) not in classifier:
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    # Every anchor of a cell has its logits of "c" and "a" where the new names are.
    logits, others = (to_numpy(raw_logits(m, batch["images"])) for m in (model, other))
    np.testing.assert_allclose(others[..., 1], logits[..., 2], atol=1e-4)
    np.testing.assert_allclose(others[..., 2], logits[..., 0], atol=1e-4)
    for fresh in (0, 3):
        assert np.abs(others[..., fresh, None] - logits).min() > 1e-4


def raw_logits(model, images):
    """Class logits (B, H, W, anchors, C) of the finest level."""
    caught = []
    convolution = model.head.classification_conv
    call = convolution.call
    convolution.call = lambda x: caught.append(call(x)) or caught[-1]
    try:
        model(images)
    finally:
        convolution.call = call
    finest = caught[0]
    return keras.ops.reshape(finest, (*finest.shape[:3], -1, model.num_classes))


POLICIES = [
    pytest.param(policy, name, marks=pytest.mark.slow if name in LEFT_OUT | others else [])
    for policy, others in (("mixed_bfloat16", set()), ("mixed_float16", set(DETECTORS) - {"FCOS"}))
    for name in DETECTORS
]


@pytest.mark.parametrize("policy, name", POLICIES)
def test_scores_and_losses_are_float32_under_any_policy(policy, name, batch):
    model = make(name, dtype=policy)
    exact = make(name)
    exact.set_weights(model.get_weights())
    outputs = model(batch["images"])
    assert {keras.backend.standardize_dtype(v.dtype) for v in outputs.values()} == {"float32"}
    assert model.head.box_convs[0].compute_dtype == policy.removeprefix("mixed_")
    found, expected = losses(model, batch, outputs), losses(exact, batch)
    assert found == pytest.approx(expected, rel=0.1, abs=0.02)
    again = type(model).from_config(model.get_config())
    assert description(again) == description(model)
