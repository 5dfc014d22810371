"""A GFLV2 that has learnt two images: what it finds, and that files keep it."""

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
