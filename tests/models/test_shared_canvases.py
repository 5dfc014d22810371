"""Images in one canvas, each as in its own: few canvases are compiled for photos of many sizes."""

import keras
import numpy as np
import pytest
from common import DETECTORS, assert_same_detections, small_detector, small_model, to_numpy

from keras_gflv2.backbones import Res2Net, ResNet
from keras_gflv2.canvas_plan import CanvasPlan
from keras_gflv2.evaluation import evaluate_coco
from keras_gflv2.grid import AnchorGrid, padded
from keras_gflv2.layers.own_canvas import own_canvases

BATCH_SIZE = (96, 160)
OWN_SIZES = [(64, 96), (96, 32)]


def randomized(model):
    """All weights random, those too that start at zero or one."""
    rng = np.random.default_rng(0)
    model.set_weights([w + np.abs(rng.normal(0, 0.05, w.shape)) for w in model.get_weights()])
    return model


def outputs_of(function, inputs):
    """What a network gives; on JAX compiled as a whole, sooner than one operation after another."""
    if keras.backend.backend() == "jax":
        import jax

        function = jax.jit(lambda inputs, function=function: function(inputs))
    return to_numpy(function(inputs))


def cells(size, stride):
    return tuple(-(-side // stride) for side in size)


QUICK = ("GFLV2", "FCOS", "RetinaNet")
KINDS = [pytest.param(k, marks=[] if k in QUICK else pytest.mark.slow) for k in DETECTORS]


@pytest.mark.parametrize("name", KINDS)
def test_locations_see_their_own_canvas_alone(name):
    """And there is no object anywhere else, whatever the maps have there."""
    model, rng = randomized(small_detector(name)), np.random.default_rng(1)

    def network(features):
        return model.head(model.feature_pyramid(features))

    features = {
        f"P{i}": rng.normal(0, 1, (2, *cells(BATCH_SIZE, 2**i), 16)).astype("float32")
        for i in (3, 4, 5)
    }
    with own_canvases(np.array(OWN_SIZES, "int32"), BATCH_SIZE):
        together = outputs_of(network, features)
    per_cell = model.grid.anchors_per_cell
    for i, size in enumerate(OWN_SIZES):
        shapes = {level: cells(size, 2 ** int(level[1:])) for level in features}
        own = {level: maps[i : i + 1, : shapes[level][0], : shapes[level][1]]
               for level, maps in features.items()}  # fmt: skip
        alone = outputs_of(network, own)
        inside = []
        for stride in AnchorGrid().strides:
            level = np.zeros(cells(BATCH_SIZE, stride), bool)
            rows, columns = cells(size, stride)
            level[:rows, :columns] = True
            inside.append(level.ravel().repeat(per_cell))
        inside = np.concatenate(inside)
        for key, values in alone.items():
            np.testing.assert_allclose(together[key][i, inside], values[0], rtol=1e-4, atol=1e-5)
        assert inside.sum() < len(inside) and np.all(together["scores"][i, ~inside] == 0)


@pytest.mark.parametrize(
    "backbone",
    [
        lambda: ResNet(18, base_channels=4),
        lambda: ResNet(18, base_channels=4, deep_stem=True, average_downsampling=True),
        pytest.param(lambda: Res2Net(50, base_channels=8), marks=pytest.mark.slow),
        pytest.param(
            lambda: ResNet(50, base_channels=4, deformable_stages=(2, 3), deformable_version=2),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["ResNet", "ResNet-D", "Res2Net", "deformable"],
)
def test_backbones_see_the_own_canvas_alone(backbone):
    model = randomized(backbone())
    images = np.random.default_rng(1).uniform(0, 255, (1, 64, 128, 3)).astype("float32")
    with own_canvases(np.array([[64, 96]], "int32"), (64, 128)):
        shared = outputs_of(model, images)
    alone = outputs_of(model, images[:, :, :96])
    for level, maps in alone.items():
        scale = np.abs(maps).max()
        np.testing.assert_allclose(
            shared[level][:, :, : maps.shape[2]] / scale, maps / scale, atol=1e-5
        )


# === Detection ===


@pytest.fixture(scope="module")
def model():
    """A small detector of parts of this package, compiled for each canvas where that can be."""
    model = small_model(
        backbone=ResNet(18, base_channels=4), head_norm_groups=4, image_size=(64, 128)
    )
    # All boxes of a fresh detector are the whole image.
    model.prediction_decoder.score_threshold = 0.0
    model.prediction_decoder.nms_iou_threshold = 1.0
    if keras.backend.backend() == "tensorflow":
        model.compile("adam", jit_compile=True)
    return model


def photos(sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype="uint8") for size in sizes]


def test_photos_of_many_sizes_share_few_canvases(model, monkeypatch):
    """And have the detections that they have in canvases of their own."""
    if keras.backend.backend() == "torch":
        assert model.canvas_plan is None
        return
    shapes, predict_step = [], model.predict_step

    def counting(*args):
        shapes.append(tuple(args[-1][0]["images"].shape))
        return predict_step(*args)

    monkeypatch.setattr(model, "predict_step", counting)
    images = photos([(64, 96), (64, 128), (64, 90), (64, 100)])
    shared = model.detect(images, 0.0)
    assert set(shapes) == {(1, 64, 96, 3), (1, 64, 128, 3)}
    batch = np.zeros((2, 64, 128, 3), "float32")
    truth = {"boxes": np.zeros((2, 1, 4)), "classes": -np.ones((2, 1))}
    sizes = np.array([[64, 128], [60, 90]])
    shapes.clear()
    evaluate_coco(
        model, [{"images": batch, "bounding_boxes": truth, "image_sizes": sizes}], verbose=0
    )
    assert not shapes  # evaluation runs in the same canvases

    for found, image in zip(shared, images):
        (own,) = model.detect(image, 0.0, predict=model._detect_batch)
        assert len(own["boxes"]) == 100
        assert_same_detections(found, own, 1e-6, 1e-2, threshold=own["confidence"][-1])


def test_detectors_with_foreign_parts_have_own_canvases():
    class OwnDecoder(type(small_model().prediction_decoder)):
        pass

    compiles = keras.backend.backend() == "jax"
    ours = ResNet(18, base_channels=4)
    assert (small_model(backbone=ours, head_norm_groups=4).canvas_plan is not None) == compiles
    assert small_model().canvas_plan is None  # a backbone of Keras's layers
    assert small_model(backbone=ours, prediction_decoder=OwnDecoder()).canvas_plan is None


# === Which canvases ===


def all_sizes(short=800, longest=1333):
    """Canvases of photos of all ratios, resized as `detect` does, in a mixed order."""
    sizes = [(short, side) for side in range(short, longest + 1, 7)]
    sizes += [(side, longest) for side in range(short // 2, short, 7)]
    sizes = [(padded(h), padded(w)) for h, w in sizes]
    sizes += [(w, h) for h, w in sizes]
    np.random.default_rng(0).shuffle(sizes)
    return [(int(h), int(w)) for h, w in sizes]


def test_many_sizes_have_few_canvases():
    plan, sizes = CanvasPlan(), all_sizes()
    chosen = [plan.choose(size, (800, 1333)) for size in sizes]
    for (height, width), size in zip(chosen, sizes):
        assert height >= size[0] and width >= size[1]
        assert height * width <= 1.6 * size[0] * size[1]
    assert len(set(sizes)) > 50 and len(set(chosen)) <= 10


def test_images_of_one_size_have_about_their_own_canvas():
    plan = CanvasPlan()
    assert {plan.choose((800, 864), (800, 1333)) for _ in range(9)} == {(800, 896)}


def test_a_size_that_comes_often_gets_its_own_canvas():
    plan = CanvasPlan()
    assert plan.choose((800, 1344), (800, 1333)) == (800, 1344)
    chosen = [plan.choose((800, 1088), (800, 1333)) for _ in range(1000)]
    assert chosen[0] == (800, 1344) and chosen[-1] == (800, 1088)


def test_batches_are_compiled_once_there_are_many_images():
    plan = CanvasPlan()
    together = [plan.runs_together((64, 64), 8, batch_size=8) for _ in range(40)]
    assert not together[0] and together[-1]
    assert not plan.runs_together((64, 96), 8, batch_size=8)
