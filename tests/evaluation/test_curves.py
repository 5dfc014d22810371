"""Curves over thresholds, against pycocotools and counts by hand."""

import numpy as np
import pytest
from evaluation.hand_made import FAR, OBJECT, image_of, right_by

from keras_gflv2.evaluation.coco import coco_matches, coco_metrics
from keras_gflv2.evaluation.curves import (
    Outcomes,
    confusion_matrices,
    outcomes_of,
    precision_recall,
    score_reliability,
    threshold_curves,
)

NAMES = ["a", "b"]
OBJECTS = [(0, OBJECT), (1, FAR), (1, [300, 0, 400, 100])]
# A hit, a confusion of the second object, and background.
FOUND = [(0, 0.9, OBJECT), (0, 0.6, FAR), (1, 0.3, [0, 700, 100, 800])]


def outcomes(*images):
    return outcomes_of(images, coco_matches(images, NAMES), len(NAMES))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_pycocotools(seed):
    images = random_images(seed)
    names = [0, 1, 2]
    found = outcomes_of(images, coco_matches(images, names), 3)
    expected = coco_metrics(images, names)["per_class_AP50"]
    assert precision_recall(found).mean(-1) == pytest.approx(list(expected.values()), abs=1e-9)


def random_images(seed):
    """Boxes, classes and scores near and far from objects, some of them to ignore."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(8):
        corners = rng.uniform(0, 800, (6, 2))
        objects = [(int(rng.integers(3)), [*c, *(c + 100)]) for c in corners]
        detections = [
            (label if rng.random() < 0.7 else int(rng.integers(3)), rng.random(), box)
            for label, (x, y, _, _) in objects * 2
            for left, top in [rng.normal((x, y), 20)]
            for box in [[left, top, left + 100, top + 100]]
        ]
        images.append(image_of(objects, detections, ignored=[0] if rng.random() < 0.3 else []))
    return images


def test_f1_counts_hits_detections_and_objects():
    curves = threshold_curves(outcomes(image_of(OBJECTS, FOUND)), [0.0, 0.3, 0.7, 0.95])
    # Scores above 0.3 alone: as `detect`, a detection at the threshold is left out.
    np.testing.assert_allclose(curves["f1"][-1], [2 / 6, 2 / 5, 2 / 4, 0])
    np.testing.assert_allclose(curves["f1"][0], [2 / 3, 2 / 3, 1, 0])
    np.testing.assert_allclose(curves["precision"][-1], [1 / 3, 1 / 2, 1, np.nan])
    np.testing.assert_allclose(curves["recall"][-1], [1 / 3, 1 / 3, 1 / 3, 0])


def test_confusions_are_counted_once():
    image = image_of(OBJECTS, FOUND)
    tables = confusion_matrices([image], coco_matches([image], NAMES), 2, [0.0, 0.5, 0.7])
    # True class down, predicted class to the right; the last ones are "no object" and "missed".
    np.testing.assert_array_equal(tables[0], [[1, 0, 0], [1, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(tables[1], [[1, 0, 0], [1, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(tables[2], [[1, 0, 0], [0, 0, 2], [0, 0, 0]])


def test_an_object_that_is_found_is_not_confused():
    # Class 1 comes first, but a detection of its own class has the object.
    image = image_of([(0, OBJECT)], [(1, 0.9, OBJECT), (0, 0.8, right_by(5))])
    tables = confusion_matrices([image], coco_matches([image], NAMES), 2, [0.0, 0.85])
    np.testing.assert_array_equal(tables[0], [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(tables[1], [[0, 1, 0], [0, 0, 0], [0, 0, 0]])


def test_what_is_ignored_is_in_no_table():
    image = image_of([(0, OBJECT)], [(0, 0.9, OBJECT), (0, 0.8, right_by(5))], ignored=[0])
    assert not confusion_matrices([image], coco_matches([image], NAMES), 2, [0.0]).any()
    assert outcomes(image).num_objects.tolist() == [0, 0]
    assert len(outcomes(image).hits) == 0


def test_rows_of_the_confusions_are_the_objects_and_columns_the_detections():
    images = random_images(5)
    matches = coco_matches(images, range(3))
    (table,) = confusion_matrices(images, matches, 3, [0.4])
    found = outcomes_of(images, matches, 3)
    np.testing.assert_array_equal(table[:-1].sum(1), found.num_objects)
    above = found.scores > 0.4
    np.testing.assert_array_equal(
        table[:, :-1].sum(0), np.bincount(found.classes[above], minlength=3)
    )
    hits = np.bincount(found.classes[above & found.hits], minlength=3)
    np.testing.assert_array_equal(np.diagonal(table)[:-1], hits)


def test_reliability_compares_scores_with_the_share_of_hits():
    scores = np.array([0.05, 0.05, 0.95, 0.95, 0.95, 1.0])
    hits = np.array([0, 1, 1, 1, 1, 1], bool)
    rows, error = score_reliability(Outcomes(np.zeros(6, int), scores, hits, np.array([6])))
    assert rows[0] == pytest.approx({"score": 0.05, "precision": 0.5, "count": 2})
    assert rows[1] == pytest.approx({"score": 0.9625, "precision": 1.0, "count": 4})
    assert error == pytest.approx((2 * 0.45 + 4 * 0.0375) / 6)
