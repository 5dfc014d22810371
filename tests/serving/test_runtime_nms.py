"""Non-maximum suppression by the runtimes' own operators: exactly that of the package."""

import keras
import numpy as np
import pytest
from common import to_numpy

from keras_gflv2.postprocessing import PredictionDecoder

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="exports run under TensorFlow on every backend"
)
OUTPUTS = ("boxes", "classes", "confidence", "num_detections")
LEVELS = (240, 60)


def crowd(seed, batch, objects, num_classes, density=1.0, steps=None):
    """Scores (B, A, C) and boxes (B, A, 4) of locations that crowd around objects.

    Args:
        density: fraction of the classes of a location that have a score.
        steps: scores and boxes take few values, so that many scores and overlaps are equal.
    """
    rng, total = np.random.default_rng(seed), sum(LEVELS)
    objects = np.concatenate(
        [rng.uniform(0, 400, (batch, objects, 2)), rng.uniform(20, 120, (batch, objects, 2))], -1
    )
    chosen = rng.integers(0, objects.shape[1], (batch, total))
    center, size = np.split(np.take_along_axis(objects, chosen[..., None], axis=1), 2, axis=-1)
    center = center + rng.normal(0, 8, center.shape)
    boxes = np.concatenate([center - size / 2, center + size / 2], axis=-1)
    scores = rng.uniform(0, 1, (batch, total, num_classes)) ** 2
    scores *= rng.uniform(size=scores.shape) < density
    if steps:
        scores, boxes = np.round(scores * steps) / steps, np.round(boxes / 16) * 16
    return scores.astype("float32"), boxes.astype("float32")


def at_the_threshold():
    """Overlaps of exactly 0.5, boxes without area or with sides exchanged, an empty image."""
    boxes = np.zeros((1, sum(LEVELS), 4), "float32")
    boxes[0, :7] = [
        [0, 0, 2, 1],
        [0, 0, 1, 1],
        [0, 0, 4, 1],
        [5, 5, 5, 9],
        [5, 5, 5, 9],
        [30, 30, 20, 20],
        [20, 20, 30, 30],
    ]
    scores = np.zeros((1, sum(LEVELS), 2), "float32")
    scores[0, :7] = np.linspace(0.9, 0.3, 7)[:, None]
    return np.repeat(scores, 2, axis=0) * [[[1.0]], [[0.0]]], np.repeat(boxes, 2, axis=0)


CASES = {
    "three classes": lambda: crowd(0, 2, 20, 3),
    "80 classes": lambda: crowd(1, 2, 100, 80, density=0.1),
    "500 objects": lambda: crowd(2, 3, 500, 4),
    "ties": lambda: crowd(3, 2, 10, 3, steps=8),
    "ties of 80 classes": lambda: crowd(4, 1, 30, 80, density=0.3, steps=6),
    "one object": lambda: crowd(5, 1, 1, 1),
    "nothing": lambda: crowd(6, 2, 5, 3, density=0.0),
    "at the threshold": at_the_threshold,
}


def decoder_like(kind=PredictionDecoder):
    return kind(0.05, nms_iou_threshold=0.5, pre_nms_topk=100, max_detections=90)


def run_onnx(scores, boxes):
    onnxruntime = pytest.importorskip("onnxruntime")
    tf2onnx = pytest.importorskip("tf2onnx")
    from keras_gflv2.serving.onnx_nms import append_nms

    function = candidates_of(scores.shape[-1])
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=18
    )
    session = onnxruntime.InferenceSession(
        append_nms(model, scores.shape[-1], 0.5, 90).SerializeToString()
    )
    names = [output.name for output in session.get_outputs()]
    found = session.run(None, {"scores_in": scores, "boxes_in": boxes})
    return with_boxes(dict(zip(names, found)), boxes)


def run_openvino(scores, boxes):
    openvino = pytest.importorskip("openvino")
    from keras_gflv2.serving.openvino_nms import append_nms, ignore_order_of_equals

    module = openvino.convert_model(candidates_of(scores.shape[-1]))
    ignore_order_of_equals(module)
    model = append_nms(module, scores.shape[-1], 0.5, 90)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"scores_in": scores, "boxes_in": boxes})
    return with_boxes({output.get_any_name(): value for output, value in found.items()}, boxes)


def with_boxes(found, boxes):
    """What the operators keep, with the boxes at its locations."""
    locations = found.pop("locations")
    assert locations.dtype == np.int32 and np.array_equal(locations >= 0, found["classes"] >= 0)
    rows = np.take_along_axis(boxes, np.maximum(locations, 0)[..., None], axis=1)
    return {**found, "boxes": np.where(locations[..., None] >= 0, rows, np.float32(-1))}


def run_litert(scores, boxes):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    import tensorflow as tf

    from keras_gflv2.serving.litert_nms import LiteRTDecoder

    decoder = decoder_like(LiteRTDecoder)
    shapes = [(1, *values.shape[1:]) for values in (scores, boxes)]
    function = tf.function(
        lambda scores_in, boxes_in: without_locations(
            decoder(scores_in, boxes_in, locations_per_level=list(LEVELS))
        ),
        input_signature=[tf.TensorSpec(shape, tf.float32) for shape in shapes],
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], decoder
    )
    runner = interpreter.Interpreter(model_content=converter.convert()).get_signature_runner()
    rows = [
        runner(scores_in=scores[i : i + 1], boxes_in=boxes[i : i + 1]) for i in range(len(scores))
    ]
    return {name: np.concatenate([row[name] for row in rows]) for name in OUTPUTS}


def candidates_of(num_classes):
    import tensorflow as tf

    from keras_gflv2.serving.candidates import Candidates

    decoder = decoder_like(Candidates)

    def candidates(scores_in, boxes_in):
        found = decoder(scores_in, boxes_in, locations_per_level=list(LEVELS))
        return {name: found[name] for name in ("scores", "corners")}

    shapes = [(None, sum(LEVELS), num_classes), (None, sum(LEVELS), 4)]
    return tf.function(
        candidates,
        input_signature=[
            tf.TensorSpec(shape, tf.float32, name)
            for shape, name in zip(shapes, ("scores_in", "boxes_in"))
        ],
    )


def without_locations(found):
    return {name: found[name] for name in OUTPUTS}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("run", [run_onnx, run_openvino, run_litert])
def test_equals_the_decoder(run, case):
    """The same detections in the same order: scores, boxes and padding are equal, not close."""
    scores, boxes = (np.asarray(values, "float32") for values in CASES[case]())
    decoder = decoder_like()
    wanted = to_numpy(decoder(scores, boxes, locations_per_level=list(LEVELS)))
    found = run(scores, boxes)
    assert set(found) == set(OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)
        assert found[name].dtype == wanted[name].dtype
    assert (wanted["num_detections"] > 0).any() == (case != "nothing")
