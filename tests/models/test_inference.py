"""`predict`, `predict_on_batch` and `detect`: the same detections, and the network traced once."""

import contextlib

import keras
import numpy as np
import pytest
from common import assert_same_detections, copy_of, to_numpy, truth_of

from keras_gflv2.evaluation import evaluate_coco

IS_JAX = keras.backend.backend() == "jax"
KEYS = ("boxes", "classes", "confidence", "num_detections", "uncertainties")


@pytest.fixture(scope="module")
def model(trained):
    """The trained detector, never compiled, as `from_preset` gives it."""
    return copy_of(trained[0])


@pytest.fixture(scope="module")
def images(trained):
    """Five images (5, 96, 128, 3) that are all different, three of them empty of objects."""
    noise = np.random.default_rng(0).uniform(0, 255, (3, 96, 128, 3))
    return np.concatenate([trained[1]["images"], noise.astype("float32")])


@contextlib.contextmanager
def counted(model):
    """Shapes of the batches for which Python runs the network: each that is traced or compiled."""
    shapes, predict_step = [], model.predict_step

    def counting(*args):
        images = args[-1][0]["images"]
        shapes.append(tuple(images.shape))
        return predict_step(*args)

    model.predict_step = counting
    try:
        yield shapes
    finally:
        model.predict_step = predict_step


def assert_equal(found, expected):
    """Row by row, to rounding: batches of another length are added up in another order."""
    assert set(found) == set(expected) == set(KEYS)
    for key in KEYS:
        assert found[key].dtype == expected[key].dtype and found[key].shape == expected[key].shape
    assert_same_detections(found, expected, 1e-5, 1e-3)


# === predict ===


@pytest.mark.parametrize("sizes", [False, True])
@pytest.mark.parametrize("batch_size", [None, 5, 2, 1])
def test_predict_of_arrays_is_predict_on_batch(model, images, sizes, batch_size):
    """Whatever the length of the last batch."""
    inputs = images
    if sizes:
        image_sizes = np.int64([[96, 128], [80, 100], [60, 128], [96, 64], [1, 1]])
        inputs = {"images": images, "image_sizes": image_sizes}
    expected = model.predict_on_batch(inputs)
    assert expected["num_detections"][0] > 1
    assert_equal(model.predict(inputs, batch_size, verbose=0), expected)


def test_uncertainties_are_the_standard_deviations_of_the_sides(trained, images):
    """Of the distributions at the location where a detection was found, by numpy."""
    model = trained[0]
    predictions = to_numpy(model(images))
    scores, logits = predictions["scores"], predictions["box_distributions"].astype("float64")
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean, square = (np.sum(probabilities * np.arange(17.0) ** k, axis=-1) for k in (1, 2))
    strides = to_numpy(model.grid(96, 128).strides)
    deviations = np.sqrt(square - mean**2) * strides  # (B, A, 4) in pixels
    found, compared = model.predict(images, verbose=0), 0
    for row, count in enumerate(found["num_detections"]):
        for k in range(count):
            of_class = scores[row, :, found["classes"][row, k]]
            equal = np.flatnonzero(np.abs(of_class - found["confidence"][row, k]) < 1e-6)
            if len(equal) == 1:
                wanted = deviations[row, equal[0]]
                np.testing.assert_allclose(found["uncertainties"][row, k], wanted, atol=1e-3)
                compared += 1
        assert (found["uncertainties"][row, count:] == -1).all()
    assert compared > 10


@pytest.mark.parametrize("box_format", ["xywh", "rel_xyxy", "rel_yxyx", "rel_center_xywh"])
def test_uncertainties_are_in_the_unit_of_the_boxes(trained, images, box_format):
    """Left, top, right, bottom in every format; `detect` has pixels whatever the format."""
    model = copy_of(trained[0])
    expected = model.predict(images, verbose=0)["uncertainties"]
    photos = list(np.round(images[:2, :90]).astype("uint8"))
    detected = model.detect(photos, 0.1, image_size=(120, 160))
    other = copy_of(model)
    other.bounding_box_format = box_format
    found = other.predict(images, verbose=0)["uncertainties"]
    unit = np.float32([128, 96, 128, 96] if box_format.startswith("rel") else [1, 1, 1, 1])
    present = expected >= 0
    assert np.array_equal(found >= 0, present) and (found[~present] == -1).all()
    np.testing.assert_allclose((found * unit)[present], expected[present], rtol=1e-4)
    for one, wanted in zip(other.detect(photos, 0.1, image_size=(120, 160)), detected):
        assert len(one["boxes"]) > 0
        assert_same_detections(one, wanted, 1e-5, 1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "float64", "float16"])
def test_pixels_of_any_type_are_the_same_pixels(model, images, dtype):
    pixels = np.round(images[:2])
    expected = model.predict(pixels, verbose=0)
    assert_equal(model.predict(pixels.astype(dtype), verbose=0), expected)
    assert_equal(model.predict_on_batch(pixels.astype(dtype)), expected)


def test_datasets_give_what_arrays_give(model, images):
    batches = [images[:2], images[2:4], images[4:]]
    expected = model.predict(images, 2, verbose=0)
    assert_equal(model.predict((batch for batch in batches), verbose=0), expected)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(batches)

        def __getitem__(self, index):
            return {"images": batches[index]}

    assert_equal(model.predict(Batches(), verbose=0), expected)


def test_no_image_has_no_detections(model):
    nothing = np.zeros((0, 96, 128, 3), "float32")
    for found in (model.predict(nothing, verbose=0), model.predict_on_batch(nothing)):
        assert {key: found[key].shape for key in KEYS} == {
            "boxes": (0, 100, 4),
            "classes": (0, 100),
            "confidence": (0, 100),
            "num_detections": (0,),
            "uncertainties": (0, 100, 4),
        }
    assert model.detect([]) == []


def test_steps_and_callbacks_are_those_of_keras(model, images):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_predict_begin(self, logs=None):
            seen.append("begin")

        def on_predict_batch_begin(self, batch, logs=None):
            seen.append(batch)

        def on_predict_batch_end(self, batch, logs=None):
            seen.append(len(keras.tree.flatten(logs)[0]))  # Keras takes "outputs" apart
            self.model.stop_predicting = stops

        def on_predict_end(self, logs=None):
            seen.append("end")

    stops = False
    whole = model.predict(images, 2, verbose=0, callbacks=[Watch()])
    assert seen == ["begin", 0, 2, 1, 2, 2, 1, "end"]
    first = {key: value[:2] for key, value in whole.items()}
    assert_equal(model.predict(images, 2, verbose=0, steps=1), first)
    seen.clear()
    model.predict(images, verbose=0, steps=2, callbacks=[Watch()])
    assert seen == ["begin", 0, 3, 1, 2, "end"]
    seen.clear()
    stops = True
    assert_equal(model.predict(images, 2, verbose=0, callbacks=[Watch()]), first)
    assert seen == ["begin", 0, 2, "end"]


def test_a_bar_shows_the_batches(model, images, capsys):
    for verbose, shown in (("auto", "3/3"), (2, "3/3"), (0, "")):
        model.predict(images, 2, verbose=verbose)
        assert shown in capsys.readouterr().out
    model.predict(images, 2, verbose=0)
    assert not capsys.readouterr().out


def test_what_is_predicted_belongs_to_the_caller(model, images):
    for found in (model.predict(images[:1], verbose=0), model.predict_on_batch(images[:1])):
        found["boxes"] *= 2


def test_weights_and_settings_of_the_moment(trained, images):
    """New weights and `compile` count at once."""
    model = copy_of(trained[0])
    expected = model.predict(images[:2], verbose=0)
    weights = model.get_weights()
    model.set_weights([np.zeros_like(w) for w in weights])
    changed = model.predict(images[:2], verbose=0)
    assert not np.allclose(changed["confidence"], expected["confidence"], atol=0.01)
    model.set_weights(weights)
    model.prediction_decoder.max_detections = 3
    model.compile("adam", run_eagerly=not IS_JAX)
    found = model.predict(images[:2], verbose=0)
    assert found["boxes"].shape == (2, 3, 4)
    np.testing.assert_allclose(found["boxes"], expected["boxes"][:, :3], atol=1e-3)


# === How often the network is traced ===

# Resized to a short side of 64 and a long one of at most 128, they have four canvases.
SIZES = [(64, 96), (96, 64), (64, 64), (90, 128), (33, 95), (64, 96), (40, 120)]
CANVASES = {(64, 96), (96, 64), (64, 64), (64, 128)}


def photos(sizes):
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype="uint8") for size in sizes]


def assert_traced_once(shapes, canvases, lengths):
    """TensorFlow once for all batches; JAX each canvas once for each of few lengths."""
    if keras.backend.backend() == "tensorflow":
        assert shapes == [(None, None, None, 3)]
    if keras.backend.backend() == "jax":
        assert len(shapes) == len(set(shapes))
        assert {tuple(shape[1:3]) for shape in shapes} == canvases
        assert {shape[0] for shape in shapes} <= lengths


def test_detect_traces_photos_of_many_sizes_once(trained):
    """However many there are of each size."""
    model = copy_of(trained[0])
    with counted(model) as shapes:
        for count in (7, 5, 6):
            model.detect(photos(SIZES[:count]), image_size=(64, 128), batch_size=3)
        assert_traced_once(shapes, CANVASES, {3, 1})


def test_predict_traces_the_rest_of_all_arrays_once(trained, images):
    """Whatever the length of the last batch."""
    model = copy_of(trained[0])
    with counted(model) as shapes:
        for count in (5, 4, 3):
            model.predict(images[:count], 3, verbose=0)
        model.predict_on_batch(images[:3])
        assert_traced_once(shapes, {(96, 128)}, {3, 1})


def test_evaluation_traces_images_of_many_sizes_once(trained):
    model = copy_of(trained[0])
    batches = []
    for start in (0, 3, 6):
        sizes = SIZES[start : start + 3]
        batch = np.zeros((len(sizes), 96, 128, 3), "float32")
        truth = {"boxes": np.zeros((len(sizes), 1, 4)), "classes": -np.ones((len(sizes), 1))}
        batches.append({"images": batch, "bounding_boxes": truth, "image_sizes": np.array(sizes)})
    with counted(model) as shapes:
        evaluate_coco(model, batches, verbose=0)
        canvases = {(64, 96), (96, 64), (64, 64), (96, 128), (64, 128)}
        assert_traced_once(shapes, canvases, {3, 1})


def test_results_are_those_of_each_photo_alone(model, trained):
    images = trained[1]["images"].round().astype("uint8")
    mixed = [*images, *images[:, :60, :90], *photos(SIZES)]
    together = model.detect(mixed, 0.1, image_size=(96, 128), batch_size=3)
    for found, image in zip(together, mixed, strict=True):
        (alone,) = model.detect([image], 0.1, image_size=(96, 128))
        assert_same_detections(found, alone, 1e-5, 1e-3)
    assert len(together[0]["boxes"]) >= len(truth_of(trained[1], 0)[0])
