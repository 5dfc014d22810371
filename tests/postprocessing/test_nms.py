import contextlib

import keras
import numpy as np
import pytest
from common import golden, to_numpy

from keras_gflv2.postprocessing import PredictionDecoder, nms, tensorflow_nms
from keras_gflv2.postprocessing.ranking import best


@pytest.mark.parametrize("case", ["basic", "max10", "high_thr", "none_left", "loose"])
def test_nms_equals_the_official_one(case):
    data = golden("multiclass_nms.npz")
    expected, labels = data[f"{case}__det_bboxes"], data[f"{case}__det_labels"]
    boxes = data[f"{case}__boxes"]
    limit = int(data[f"{case}__max_num"])
    found = to_numpy(
        nms.non_max_suppression(
            data[f"{case}__scores"][None, :, :5],
            boxes[None],
            score_threshold=float(data[f"{case}__score_thr"]),
            iou_threshold=float(data[f"{case}__iou_threshold"]),
            max_detections=limit if limit > 0 else 200,
        )
    )
    count = int((found["confidence"][0] > 0).sum())
    assert count == len(expected)
    np.testing.assert_array_equal(found["classes"][0, :count], labels)
    np.testing.assert_allclose(found["confidence"][0, :count], expected[:, 4], rtol=1e-6)
    np.testing.assert_array_equal(boxes[found["indices"][0, :count]], expected[:, :4])
    for values in found.values():
        assert np.all(values[0, count:] == -1)


def greedy(scores, boxes, score_threshold, iou_threshold, limit):
    """Greedy NMS by class as everyone writes it; equal scores by location and class."""
    order = sorted((-s, m, c) for (m, c), s in np.ndenumerate(scores) if s > score_threshold)
    kept = []
    for s, m, c in order:
        if all(c != c2 or overlap(boxes[m], boxes[m2]) <= iou_threshold for _, m2, c2 in kept):
            kept.append((-s, m, c))
            if len(kept) == limit:
                break
    return kept


def overlap(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return shared / union if union > 0 else 0.0


def assert_greedy(scores, boxes, score_threshold, iou_threshold, limit, **options):
    found = to_numpy(
        nms.non_max_suppression(
            scores,
            boxes,
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=limit,
            **options,
        )
    )
    counts = []
    for i in range(len(scores)):
        expected = greedy(scores[i], boxes[i], score_threshold, iou_threshold, limit)
        counts.append(len(expected))
        ours = list(zip(found["indices"][i], found["classes"][i], found["confidence"][i]))
        assert ours[: counts[i]] == [(m, c, s) for s, m, c in expected]
        assert all(one == (-1, -1, -1) for one in ours[counts[i] :])
    return counts


def crowded(rng, count, side, images=3):
    """Boxes whose corners lie in a square of `side` pixels, on whole pixels."""
    corner = rng.integers(0, side, (images, count, 2))
    size = rng.integers(20, 40, (images, count, 2))
    return np.concatenate([corner, corner + size], -1).astype("float32")


@pytest.fixture(params=[True, False], ids=["TensorFlow's operator", "portable"])
def each_way(request):
    with contextlib.nullcontext() if request.param else tensorflow_nms.forbidden():
        yield


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("portion", [7, 64, 1000])
def test_the_result_does_not_depend_on_how_candidates_are_taken(portion, monkeypatch):
    """Crowded boxes, so that few of many candidates survive and later portions are needed; whole
    pixels, so that overlaps equal the threshold; and few different scores."""
    monkeypatch.setattr(nms, "CANDIDATES", portion)
    monkeypatch.setattr(nms, "BLOCK_SIZE", max(portion // 4, 1))
    rng = np.random.default_rng(3)
    boxes = crowded(rng, 90, 30)
    scores = rng.integers(1, 20, (3, 90, 4)).astype("float32") / 20
    scores[2] = 0.01  # an image without a candidate
    counts = assert_greedy(scores, boxes, 0.2, 0.5, 40)
    assert counts[0] > 10 and counts[2] == 0


@pytest.mark.usefixtures("each_way")
def test_overlaps_that_equal_the_threshold_are_kept():
    boxes = np.float32([[[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [0, 0, 10, 10]]])
    scores = np.float32([[[0.5], [0.5], [0.5], [0.5]]])
    assert assert_greedy(scores, boxes, 0.5 - 1e-6, 0.5, 3) == [2]
    assert assert_greedy(scores, boxes, 0.5, 0.5, 3) == [0]


@pytest.mark.usefixtures("each_way")
def test_five_hundred_objects_of_eighty_classes():
    """Several boxes around each of them."""
    rng = np.random.default_rng(0)
    corner = np.repeat(rng.uniform(0, 1200, (1, 500, 2)), 4, axis=1) + rng.normal(size=(1, 2000, 2))
    boxes = np.concatenate([corner, corner + 40], -1).astype("float32")
    scores = np.where(rng.random((1, 2000, 80)) < 0.01, rng.random((1, 2000, 80)), 0.0)
    scores[0, np.arange(2000), np.repeat(rng.integers(0, 80, 500), 4)] = rng.uniform(0.3, 1, 2000)
    scores = scores.astype("float32")
    assert assert_greedy(scores, boxes, 0.05, 0.6, 100) == [100]
    assert assert_greedy(scores, boxes, 0.29, 0.6, 700)[0] > 490


@pytest.mark.usefixtures("each_way")
def test_thousands_of_candidates_of_one_object():
    """The first thousand leave one: others come later."""
    rng = np.random.default_rng(1)
    boxes = np.float32([[10, 10, 110, 110]]) + rng.uniform(0, 1, (1, 2500, 4)).astype("float32")
    scores = rng.uniform(0.5, 1, (1, 2500, 1)).astype("float32")
    boxes[0, -5:] += np.arange(1, 6)[:, None] * 200
    scores[0, -5:] = 0.1
    assert assert_greedy(scores, boxes, 0.05, 0.6, 10) == [6]


@pytest.mark.usefixtures("each_way")
def test_thresholds_of_each_image():
    rng = np.random.default_rng(2)
    boxes, scores = crowded(rng, 200, 60), rng.random((3, 200, 2)).astype("float32")
    thresholds = [0.2, 0.9, 0.5], [0.6, 0.3, 0.0]
    by_image = (np.float32(values)[:, None, None] for values in thresholds)
    names = ("score_threshold", "iou_threshold")
    found = to_numpy(nms.non_max_suppression(scores, boxes, **dict(zip(names, by_image))))
    for i, (score, overlapping) in enumerate(zip(*thresholds)):
        expected = greedy(scores[i], boxes[i], score, overlapping, 100)
        count = (found["classes"][i] >= 0).sum()
        ours = list(zip(found["confidence"][i, :count], found["indices"][i], found["classes"][i]))
        assert ours == expected


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="XLA is TensorFlow's option")
def test_xla_compiles_it():
    """It has no operator of NMS."""
    import tensorflow as tf

    rng = np.random.default_rng(4)
    boxes, scores = crowded(rng, 200, 60), rng.random((3, 200, 2)).astype("float32")
    expected = to_numpy(nms.non_max_suppression(scores, boxes))
    compiled = tf.function(nms.non_max_suppression, jit_compile=True)
    found = to_numpy(compiled(tf.constant(scores), tf.constant(boxes)))
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_the_decoder_takes_the_best_of_every_level_and_several_classes_of_a_location():
    rng = np.random.default_rng(0)
    boxes = np.zeros((1, 6, 4), "float32")
    boxes[0, :, :2] = np.arange(6)[:, None] * 100
    boxes[0, :, 2:] = boxes[0, :, :2] + 10
    scores = rng.uniform(0.06, 0.5, (1, 6, 2)).astype("float32")
    scores[0, 0] = [0.9, 0.8]
    scores[0, 1] = [0.04, 0.03]  # under the threshold
    decoder = PredictionDecoder(pre_nms_topk=2, max_detections=8)
    found = to_numpy(decoder(scores, boxes, locations_per_level=[4, 2]))
    best = [*np.argsort(-scores[0, :4].max(-1))[:2], 4, 5]
    assert found["num_detections"][0] == 8
    assert set(found["locations"][0]) == set(best)
    assert list(found["classes"][0, :2]) == [0, 1] and list(found["locations"][0, :2]) == [0, 0]
    np.testing.assert_array_equal(found["boxes"][0], boxes[0, found["locations"][0]])
    assert np.all(np.diff(found["confidence"][0]) <= 0)


def test_no_detection_is_all_padding():
    decoder = PredictionDecoder(max_detections=5)
    found = to_numpy(
        decoder(
            np.zeros((2, 3, 2), "float32"), np.zeros((2, 3, 4), "float32"), locations_per_level=[3]
        )
    )
    assert list(found.pop("num_detections")) == [0, 0]
    assert all(np.all(v == -1) for v in found.values())


class OfBoxes(PredictionDecoder):
    """A decoder of a user, that wants the boxes of all locations."""

    def call(self, scores, boxes, locations_per_level, **options):
        self.seen = tuple(boxes.shape)
        return super().call(scores, boxes, locations_per_level, **options)


def test_only_boxes_of_chosen_locations_are_computed_unless_a_decoder_wants_all(trained):
    model, batch = trained
    shapes = []
    decode, decoder = model.representation.decode, model.prediction_decoder
    outputs = model(batch["images"])
    count = outputs["scores"].shape[1]
    try:
        model.representation.decode = lambda raw, at: shapes.append(raw.shape[1]) or decode(raw, at)
        model.prediction_decoder = PredictionDecoder(pre_nms_topk=20)
        found = to_numpy(model.decode_predictions(outputs, batch["images"]))
        model.prediction_decoder = OfBoxes(pre_nms_topk=20)
        expected = to_numpy(model.decode_predictions(outputs, batch["images"]))
        assert model.prediction_decoder.seen == (2, count, 4)
    finally:
        del model.representation.decode
        model.prediction_decoder = decoder
    assert shapes[0] < count / 2 and shapes[1] == count
    assert found["num_detections"].min() > 0
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4)


def test_equal_scores_are_ranked_by_index():
    values = np.float32([[0.5, 0.25, 0.5, 0.0, 0.25, 0.75, 0.5]])
    found, index = to_numpy(best(keras.ops.convert_to_tensor(values), 6))
    assert index.tolist() == [[5, 0, 2, 6, 1, 4]]
    np.testing.assert_array_equal(found, values[:, index[0]])
