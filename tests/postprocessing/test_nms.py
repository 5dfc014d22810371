import numpy as np
import pytest
from common import golden, to_numpy

from keras_gflv2.postprocessing import PredictionDecoder, nms


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
    """Greedy NMS by class as everyone writes it; equal scores by location, then by class."""
    candidates = [(s, m, c) for (m, c), s in np.ndenumerate(scores) if s > score_threshold]
    order = sorted(candidates, key=lambda candidate: -candidate[0])
    kept = []
    for s, m, c in order:
        if all(c != c2 or overlap(boxes[m], boxes[m2]) <= iou_threshold for _, m2, c2 in kept):
            kept.append((s, m, c))
            if len(kept) == limit:
                break
    return kept


def overlap(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared
    return shared / union if union > 0 else 0.0


@pytest.mark.parametrize("block_size", [7, 64, 1000])
def test_the_result_does_not_depend_on_how_candidates_are_taken(block_size, monkeypatch):
    """Crowded boxes, so that few of many candidates survive and later blocks are needed."""
    monkeypatch.setattr(nms, "BLOCK_SIZE", block_size)
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 30, (3, 90, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 40, (3, 90, 2))], -1)
    boxes = boxes.astype("float32")
    scores = rng.uniform(0, 1, (3, 90, 4)).astype("float32")
    scores[2] = 0.01  # an image without a candidate
    found = to_numpy(
        nms.non_max_suppression(
            scores, boxes, score_threshold=0.2, iou_threshold=0.4, max_detections=40
        )
    )
    for i in range(3):
        expected = greedy(scores[i], boxes[i], 0.2, 0.4, 40)
        count = int((found["classes"][i] >= 0).sum())
        ours = list(zip(found["indices"][i, :count], found["classes"][i, :count]))
        assert ours == [(m, c) for _, m, c in expected]


@pytest.mark.parametrize("block_size", [16, 1000])
def test_of_equal_scores_the_first_is_the_better_one(block_size, monkeypatch):
    monkeypatch.setattr(nms, "BLOCK_SIZE", block_size)
    rng = np.random.default_rng(4)
    corner = rng.integers(0, 8, (1, 60, 2)) * 4.0
    boxes = np.concatenate([corner, corner + 16], -1).astype("float32")
    scores = (rng.integers(0, 5, (1, 60, 3)) / 8).astype("float32")
    options = {"score_threshold": 0.1, "iou_threshold": 0.4, "max_detections": 40}
    found = to_numpy(nms.non_max_suppression(scores, boxes, **options))
    expected = greedy(scores[0], boxes[0], 0.1, 0.4, 40)
    ours = [*zip(found["indices"][0], found["classes"][0])][: len(expected)]
    assert ours == [(m, c) for _, m, c in expected]


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
