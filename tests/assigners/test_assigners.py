"""What holds for every assigner."""

import keras
import numpy as np
import pytest
from assigners.assigning import (
    DETECTORS,
    assign,
    cells,
    compiled,
    inside_image,
    padded_batch,
    random_boxes,
)
from common import to_numpy

from keras_gflv2.assigners import (
    Assigner,
    ATSSAssigner,
    FCOSAssigner,
    FoveaAssigner,
    MaxIoUAssigner,
)
from keras_gflv2.targets import Targets

every_detector = pytest.mark.parametrize("detector", DETECTORS)


@every_detector
def test_padding_and_the_rest_of_the_batch_do_not_change_an_assignment(detector):
    rng = np.random.default_rng(0)
    boxes = [random_boxes(rng, n, (128, 160)) for n in (12, 3, 0)]
    together, _ = assign(*DETECTORS[detector], boxes, (128, 160), padding=1e30, rows=5)
    for i, of_image in enumerate(boxes):
        alone, _ = assign(*DETECTORS[detector], [of_image], (128, 160))
        np.testing.assert_array_equal(together[i], alone[0])
    assert (together[:2] >= 0).any(axis=1).all() and np.all(together[2] == -1)


@every_detector
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_padding_may_hold_any_numbers_and_be_marked_as_ignored(detector, value):
    boxes = [random_boxes(np.random.default_rng(1), 6, (96, 96))]
    expected, _ = assign(*DETECTORS[detector], boxes, (96, 96))
    found, valid = assign(
        *DETECTORS[detector], boxes, (96, 96), ignored=[[0] * 6 + [1] * 3], padding=value
    )
    np.testing.assert_array_equal(found, expected)
    if detector != "retina":
        assert valid.all()


@every_detector
def test_a_box_that_is_not_finite_takes_no_location(detector):
    boxes = random_boxes(np.random.default_rng(2), 4, (96, 96))
    expected, _ = assign(*DETECTORS[detector], [boxes], (96, 96))
    broken = np.float32([[np.nan, 0, 9, 9], [0, 0, np.inf, np.inf], [-np.inf, 0, np.inf, 90]])
    found, _ = assign(*DETECTORS[detector], [np.concatenate([boxes, broken])], (96, 96))
    np.testing.assert_array_equal(found, expected)


@every_detector
def test_boxes_without_an_extent_and_off_the_image_take_nothing_from_others(detector):
    boxes = random_boxes(np.random.default_rng(3), 4, (96, 96))
    expected, _ = assign(*DETECTORS[detector], [boxes], (96, 96))
    empty = np.float32([[40, 40, 40, 40], [60, 60, 20, 20], [900, 900, 904, 904]])
    found, _ = assign(*DETECTORS[detector], [np.concatenate([boxes, empty])], (96, 96))
    if detector == "fovea":  # the official rule pulls boxes off the map to the cell at its edge
        found[found == 6] = -1
    np.testing.assert_array_equal(found, expected)


@every_detector
def test_an_image_inside_a_larger_batch_is_assigned_as_if_alone(detector):
    assigner, grid = DETECTORS[detector]
    boxes = random_boxes(np.random.default_rng(4), 12, (120, 131))
    alone, valid_alone = assign(assigner, grid, [boxes], (128, 160))
    found, valid = assign(assigner, grid, [boxes], (256, 256), image_sizes=np.array([[120, 131]]))
    inside = inside_image(cells((256, 256)), (120, 131))
    inside = np.repeat(inside, grid.anchors_per_cell)
    np.testing.assert_array_equal(found[0][inside], alone[0])
    np.testing.assert_array_equal(valid[0][inside], valid_alone[0])
    assert np.all(found[0][~inside] == -1) and not valid[0][~inside].any()


@every_detector
def test_a_location_in_an_ignored_box_is_neither_positive_nor_negative(detector):
    ignored_box = np.float32([[30, 30, 200, 200]])
    boxes = np.concatenate([random_boxes(np.random.default_rng(5), 8, (256, 256)), ignored_box])
    marks = [[0] * 8 + [1]]
    found, valid = assign(*DETECTORS[detector], [boxes], (256, 256), ignored=marks)
    without, valid_without = assign(*DETECTORS[detector], [boxes[:8]], (256, 256))
    hidden = valid_without[0] & ~valid[0]
    assert hidden.sum() > 50 and np.all(found[0][hidden] == -1) and not np.any(found == 8)
    if detector in ("fcos", "fovea"):
        np.testing.assert_array_equal(found[0][~hidden], without[0][~hidden])


@every_detector
def test_a_compiled_step_assigns_as_an_eager_one(detector):
    assigner, grid = DETECTORS[detector]
    rng = np.random.default_rng(6)
    boxes, classes = padded_batch([random_boxes(rng, n, (160, 192)) for n in (20, 7)])
    ignored = (rng.uniform(size=classes.shape) < 0.2).astype("float32")
    arrays = boxes, classes, np.array([[160, 192], [100, 128]], "int32"), ignored

    def function(boxes, classes, image_sizes, ignored):
        assignment = assigner(Targets(boxes, classes, image_sizes, ignored), grid(160, 192))
        return assignment.box_index, assignment.valid

    arrays = [keras.ops.convert_to_tensor(array) for array in arrays]
    eager, in_graph = to_numpy(function(*arrays)), to_numpy(compiled(function)(*arrays))
    assert eager[0].dtype == "int32" and eager[1].dtype == "bool"
    for ours, expected in zip(in_graph, eager):
        np.testing.assert_array_equal(ours, expected)


@every_detector
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs of unknown sizes")
def test_a_graph_for_batches_of_any_size_assigns_as_an_eager_step(detector):
    import tensorflow as tf

    assigner, grid = DETECTORS[detector]
    boxes, classes = padded_batch([random_boxes(np.random.default_rng(7), 9, (96, 160))])
    images = np.zeros((1, 96, 160, 3), "float32")

    def function(images, boxes, classes):
        targets = Targets.from_batch({"boxes": boxes, "classes": classes}, "xyxy", images)
        assignment = assigner(targets, grid(*keras.ops.shape(images)[1:3]))
        return assignment.box_index, assignment.valid

    shapes = [None, None, None, 3], [None, None, 4], [None, None]
    graph = tf.function(
        function,
        input_signature=[
            tf.TensorSpec(s, d) for s, d in zip(shapes, ("float32", "float32", "int32"))
        ],
    )
    found = to_numpy(graph(images, boxes, classes))
    for ours, expected in zip(
        found, to_numpy(function(*map(tf.constant, (images, boxes, classes))))
    ):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    "assigner",
    [
        ATSSAssigner(topk=5, ignore_threshold=0.7),
        MaxIoUAssigner(0.6, 0.3, min_positive_overlap=0.2, ignore_threshold=0.7, size_multiple=64),
        FCOSAssigner(center_radius=None, ranges=(32, 64), size_multiple=64),
        FoveaAssigner(sigma=0.3, size_multiple=64),
    ],
    ids=lambda assigner: type(assigner).__name__,
)
def test_assigners_survive_serialization(assigner):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(assigner))
    assert type(copy) is type(assigner) and copy.get_config() == assigner.get_config()


def test_an_assigner_without_arguments_has_an_empty_configuration():
    class NoLocation(Assigner):
        pass

    assert NoLocation().get_config() == {} and repr(NoLocation()) == "NoLocation()"
