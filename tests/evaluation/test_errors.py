"""TIDE's kinds of errors and what they cost, on scenes whose AP is known in closed form."""

import numpy as np
import pytest
from evaluation.hand_made import FAR, OBJECT, image_of, right_by

from keras_gflv2.evaluation.errors import KINDS, all_errors, ap_costs

NAMES = ["a", "b"]


def errors(*images):
    return all_errors(images, NAMES)


def costs(*images):
    return ap_costs(images, *all_errors(images, NAMES), len(NAMES))


# A detection of class 0 beside an object of class 0 at OBJECT.
@pytest.mark.parametrize(
    ("label", "box", "kind"),
    [
        (0, OBJECT, "hit"),
        (0, right_by(33), "hit"),  # IoU 0.504
        (0, right_by(34), "localization"),  # 0.493
        (0, right_by(81), "localization"),  # 0.105
        (0, right_by(82), "background"),  # 0.099
        (1, OBJECT, "classification"),
        (1, right_by(33), "classification"),
        (1, right_by(34), "both"),
        (1, right_by(81), "both"),
        (1, right_by(82), "background"),
        (0, FAR, "background"),
    ],
)
def test_the_kind_follows_from_class_and_iou(label, box, kind):
    image = image_of([(0, OBJECT)], [(label, 0.5, box)])
    (found,) = errors(image)[1]
    assert found.kinds.tolist() == [kind]
    about = {"background": -1}.get(kind, 0)
    assert found.objects.tolist() == [about]
    assert found.missed.tolist() == [kind in ("background", "both")]


def test_the_second_detection_of_an_object_is_a_duplicate():
    image = image_of([(0, OBJECT)], [(0, 0.9, OBJECT), (0, 0.8, right_by(10))])
    (found,) = errors(image)[1]
    assert found.kinds.tolist() == ["hit", "duplicate"]
    assert found.ious[1] == pytest.approx(90 / 110)


def test_a_badly_placed_box_of_the_right_class_is_no_confusion():
    # IoU 0.49 with an object of its class, and 0.9 with one of another class.
    image = image_of([(0, right_by(-34)), (1, OBJECT)], [(0, 0.9, OBJECT)])
    assert errors(image)[1][0].kinds.tolist() == ["localization"]


def test_what_is_ignored_is_no_error():
    objects = [(0, OBJECT), (0, FAR)]
    image = image_of(objects, [(0, 0.9, OBJECT), (0, 0.8, right_by(5, FAR))], ignored=[1])
    (found,) = errors(image)[1]
    assert found.kinds.tolist() == ["hit", ""]
    assert not found.missed.any()
    assert costs(image)["AP"] == 1
    assert not any(costs(image)["counts"].values())


def test_an_image_without_objects_has_background_alone():
    image = image_of([], [(0, 0.9, OBJECT)])
    assert errors(image)[1][0].kinds.tolist() == ["background"]


# Of two objects of class 0 one is found with a score of 0.5: recalls 0..0.5 are 51 of 101.
HALF = 51 / 101
TWO = [(0, OBJECT), (0, FAR)]
HIT = (0, 0.5, OBJECT)


@pytest.mark.parametrize(
    ("extra", "kind", "ap", "cost"),
    [
        ([], "missed", HALF, 1 - HALF),
        # Below the hit: they cost the second object and nothing else.
        ([(0, 0.4, right_by(50, FAR))], "localization", HALF, 1 - HALF),
        ([(1, 0.4, FAR)], "classification", HALF, 1 - HALF),
        # Above it: precision is one half at each recall that is reached.
        ([(0, 0.9, [300, 0, 400, 100])], "background", HALF / 2, HALF / 2),
        ([(0, 0.9, right_by(50, FAR))], "localization", HALF / 2, 1 - HALF / 2),
    ],
)
def test_a_kind_costs_the_ap_that_mending_it_gains(extra, kind, ap, cost):
    found = costs(image_of(TWO, [HIT, *extra]))
    assert found["AP"] == pytest.approx(ap)
    assert found["costs"][kind] == pytest.approx(cost)
    assert found["counts"][kind] == 1
    others = set(KINDS) - {kind} - ({"missed"} if kind == "background" else set())
    assert all(found["costs"][other] == 0 for other in others)


def test_a_duplicate_costs_the_precision_of_what_comes_after_it():
    # Hit, duplicate, hit: precision 1 up to a recall of 0.5, then 2 / 3.
    detections = [(0, 0.9, OBJECT), (0, 0.8, right_by(5)), (0, 0.7, FAR)]
    found = costs(image_of(TWO, detections))
    assert found["AP"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert found["costs"]["duplicate"] == pytest.approx(1 - found["AP"])
    assert found["false_positives"] == pytest.approx(1 - found["AP"])
    assert found["false_negatives"] == 0


def test_of_several_mended_detections_of_an_object_one_finds_it():
    # Both are of the second object; mended, the better one is a hit and the other one is gone.
    two = [(0, 0.4, right_by(50, FAR)), (0, 0.3, right_by(60, FAR))]
    found = costs(image_of(TWO, [HIT, *two]))
    assert found["costs"]["localization"] == pytest.approx(1 - HALF)
    assert found["counts"]["localization"] == 2


def test_the_cost_is_the_mean_over_classes_with_objects():
    image = image_of([(0, OBJECT), (1, FAR)], [(0, 0.9, OBJECT)])
    found = costs(image)
    assert found["AP"] == pytest.approx(1 / 2)
    assert found["costs"]["missed"] == found["false_negatives"] == pytest.approx(1 / 2)


def test_without_objects_there_is_no_ap():
    assert np.isnan(costs(image_of([], []))["AP"])
