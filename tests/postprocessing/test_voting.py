"""Boxes that move to the mean of the candidates around them, and nothing else that does."""

import keras
import numpy as np
import pytest
from common import assert_same_detections, copy_of, small_detector, to_numpy
from serving.test_formats import run_litert, run_openvino

from keras_gflv2.postprocessing import PredictionDecoder, TestTimeAugmentation
from keras_gflv2.postprocessing.voting import KINDS

# IoU with the first: 1, 0.9, 0.8. The first is kept, the last two are of another class or unsure.
BOXES = np.float32(
    [[[0, 0, 10, 10], [0, 1, 10, 10], [0, 0, 8, 10], [0, 5, 10, 10], [0, 2, 10, 10]]]
)
SCORES = np.float32([[[0.9, 0], [0.6, 0], [0.3, 0], [0, 0.9], [0.01, 0]]])
SPREAD = np.float32(
    [[[1, 2, 1, 1], [1, 1, 1, 1], [1, 1, 2, 1], [1, 1, 1, 1], [0.1, 0.1, 0.1, 0.1]]]
)
NEAR = np.exp(-(np.array([0, 0.1, 0.2]) ** 2) / 0.02)


def decode(box_voting, **options):
    decoder = PredictionDecoder(box_voting=box_voting, max_detections=4)
    inputs = [keras.ops.convert_to_tensor(values) for values in (SCORES, BOXES)]
    return to_numpy(decoder(*inputs, locations_per_level=[5], **options))


def test_neighbors_count_by_their_overlap_and_the_variance_of_each_side():
    tops, rights = np.array([0, 1, 0]), np.array([10, 10, 8])
    top, right = (NEAR @ sides / NEAR.sum() for sides in (tops, rights))
    found = decode("iou")
    np.testing.assert_allclose(found["boxes"][0, 0], [0, top, right, 10], atol=1e-5)
    # Twice the standard deviation is a quarter of the weight, for that side alone.
    precision = np.array([1 / 4, 1, 1]), np.array([1, 1, 1 / 4])
    top, right = (
        (NEAR * p) @ sides / (NEAR * p).sum() for p, sides in zip(precision, (tops, rights))
    )
    found = decode("variance", spread=keras.ops.convert_to_tensor(SPREAD))
    np.testing.assert_allclose(found["boxes"][0, 0], [0, top, right, 10], atol=1e-5)
    # The box of the other class has no neighbor.
    np.testing.assert_allclose(found["boxes"][0, 1], BOXES[0, 3], atol=1e-5)


def test_neighbors_count_by_their_score():
    weights = np.array([0.9, 0.6, 0.3])
    top, right = (weights @ np.array(s) / weights.sum() for s in ([0, 1, 0], [10, 10, 8]))
    np.testing.assert_allclose(decode("score")["boxes"][0, 0], [0, top, right, 10], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_remains_is_what_nms_leaves(kind):
    spread = keras.ops.convert_to_tensor(SPREAD)
    found, plain = decode(kind, spread=spread), decode(None)
    for name in set(plain) - {"boxes"}:
        np.testing.assert_array_equal(found[name], plain[name])
    assert plain["num_detections"].tolist() == [2]
    np.testing.assert_array_equal(found["boxes"][0, 2:], -1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_without_an_area_stays(kind):
    boxes = keras.ops.convert_to_tensor(np.float32([[[5, 5, 5, 9], [5, 5, 5, 9]]]))
    scores = keras.ops.convert_to_tensor(np.float32([[[0.9], [0.8]]]))
    decoder = PredictionDecoder(box_voting=kind, max_detections=2)
    found = decoder(scores, boxes, locations_per_level=[2], spread=keras.ops.ones_like(boxes))
    np.testing.assert_allclose(to_numpy(found["boxes"]), to_numpy(boxes))


def with_voting(model, kind, **options):
    """A copy whose decoder votes."""
    copy = copy_of(model)
    copy.prediction_decoder = PredictionDecoder(box_voting=kind, **options)
    return copy


def test_predict_votes_by_the_distributions(trained):
    """Against the formula over all locations of the network's outputs."""
    model, batch = trained
    plain = model.predict_on_batch(batch["images"])
    found = with_voting(model, "variance", voting_sigma=0.05).predict_on_batch(batch["images"])
    for name in set(plain) - {"boxes"}:
        np.testing.assert_allclose(found[name], plain[name], atol=1e-4)
    outputs = to_numpy(model(batch["images"]))
    raw, at = outputs["box_distributions"], model.grid(96, 128)
    boxes = np.clip(to_numpy(model.representation.decode(raw, at)), 0, [128, 96, 128, 96])
    precision = to_numpy(model.representation.spread(raw, at)) ** -2.0
    moved = 0
    for row, count in enumerate(plain["num_detections"]):
        for place in range(int(count)):
            box, label = plain["boxes"][row, place], plain["classes"][row, place]
            near = np.flatnonzero(outputs["scores"][row, :, label] > 0.05)
            size = np.minimum(box[2:], boxes[row, near, 2:]) - np.maximum(
                box[:2], boxes[row, near, :2]
            )
            shared = np.maximum(size, 0).prod(-1)
            areas = (boxes[row, near, 2:] - boxes[row, near, :2]).prod(-1)
            overlap = shared / (areas + (box[2:] - box[:2]).prod() - shared)
            weights = np.where(overlap > 0, np.exp(-((1 - overlap) ** 2) / 0.05), 0)[:, None]
            weights = weights * precision[row, near]
            expected = (weights * boxes[row, near]).sum(axis=0) / weights.sum(axis=0)
            np.testing.assert_allclose(found["boxes"][row, place], expected, atol=2e-2)
            moved += np.abs(expected - box).max() > 0.1
    assert moved > 2


def test_a_saved_detector_votes_as_before(trained, tmp_path):
    model = with_voting(trained[0], "variance", voting_sigma=0.01)
    model.save(tmp_path / "model.keras")
    decoder = keras.saving.load_model(tmp_path / "model.keras").prediction_decoder
    assert (decoder.box_voting, decoder.voting_sigma) == ("variance", 0.01)
    # The configuration of an earlier version, which knew no voting.
    config = PredictionDecoder().get_config()
    del config["box_voting"], config["voting_sigma"]
    assert PredictionDecoder.from_config(config).box_voting is None


def test_detectors_without_distributions_vote_by_overlap_alone():
    images = np.zeros((1, 64, 64, 3), "float32")
    model = small_detector("FCOS")
    model.prediction_decoder = PredictionDecoder(score_threshold=0.0, box_voting="iou")
    assert np.isfinite(model.predict_on_batch(images)["boxes"]).all()
    with pytest.raises(ValueError, match="general distributions"):
        with_voting(small_detector("FCOS"), "variance").predict_on_batch(images)
    for wrong in ({"box_voting": "mean"}, {"box_voting": "iou", "voting_sigma": 0.0}):
        with pytest.raises(ValueError, match="box_voting"):
            PredictionDecoder(**wrong)


def test_views_vote_once(trained, without_graphs):
    """By the decoder, over the candidates of all views, or by the test-time augmentation."""
    model, batch = trained
    voting = with_voting(model, "variance")
    with pytest.raises(ValueError, match="votes on its boxes already"):
        TestTimeAugmentation(voting, box_voting=True)
    views = {"scales": (1.0,), "flips": False}
    found = TestTimeAugmentation(voting, **views).predict_on_batch(batch["images"])
    expected = voting.predict_on_batch(batch["images"])
    assert_same_detections(found, expected, score=1e-4, pixels=1e-2, threshold=0.05)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports run under TensorFlow")
def test_operators_of_runtimes_do_not_take_the_place_of_a_vote():
    from keras_gflv2.serving.candidates import has_standard_nms

    assert has_standard_nms(PredictionDecoder())
    assert not any(has_standard_nms(PredictionDecoder(box_voting=kind)) for kind in KINDS)


def run_onnx(file, images):
    session = pytest.importorskip("onnxruntime").InferenceSession(file)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images})))


RUN = {"onnx": run_onnx, "openvino": run_openvino, "litert": run_litert}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="exports run under TensorFlow")
@pytest.mark.parametrize(
    "format",
    # Half a minute for NMS in a graph.
    [*(pytest.param(f, marks=pytest.mark.slow) for f in ("onnx", "openvino")), "litert"],
)
def test_exports_vote(trained, tmp_path, format):
    from keras_gflv2.serving import export_format

    model, batch = with_voting(trained[0], "variance"), trained[1]
    images = batch["images"][:1]
    file = str(tmp_path / {"onnx": "a.onnx", "openvino": "a.xml", "litert": "a.tflite"}[format])
    export_format(model, file, format, size=(96, 128) if format == "litert" else None)
    found = RUN[format](file, images)
    expected = model.predict_on_batch(images)
    plain = trained[0].predict_on_batch(images)
    assert np.abs(expected["boxes"] - plain["boxes"]).max() > 0.1
    assert_same_detections(found, expected, score=1e-4, pixels=1e-2, threshold=0.05)
