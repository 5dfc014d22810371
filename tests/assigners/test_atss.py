import numpy as np
import pytest
from assigners.assigning import DETECTORS, NINE_ANCHORS, assign, cells, random_boxes
from common import golden, pairwise_iou

from keras_gflv2.assigners import ATSSAssigner
from keras_gflv2.grid import AnchorGrid

ATSS = DETECTORS["atss"]
CASES = (
    "no_gt", "one_gt", "overlapping", "duplicate_gt", "tiny_gt", "tiny_gt_no_centre_inside",
    "huge_gt", "thin_gt", "corner_gt", "ignore_on_thr05", "ties_symmetric", "ties_midcell",
    "grid_aligned_small", "random0", "random1", "random2",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_assignment_equals_the_official_one(case):
    data = golden("atss.npz")
    boxes = data[f"{case}__gt_bboxes"]
    ignored = None
    if case == "ignore_on_thr05":
        ignore_boxes = data[f"{case}__gt_ignore"]
        ignored = np.concatenate([np.zeros(len(boxes)), np.ones(len(ignore_boxes))])[None]
        boxes = np.concatenate([boxes, ignore_boxes])
    assigned, counted = assign(*ATSS, [boxes], (128, 160), ignored=ignored)
    ours = np.where(counted[0], assigned[0] + 1, -1)
    expected = data[f"{case}__assigned_gt_inds"]
    # Where the 9th and 10th nearest are equally far, either is right, and moves the threshold.
    assert np.sum(ours != expected) <= 4 * data[f"{case}__boundary_ties"]


def dense_assignment(boxes, size, topk=9):
    """ATSS written from the paper with all pairs, in numpy; assumes no ties."""
    locations = cells(size).astype("float64")
    levels, strides = locations[:, 3], locations[:, 2:3]
    centres = locations[:, :2] * strides
    anchors = np.concatenate([centres - 4 * strides, centres + 4 * strides], -1)
    best, assigned = np.full(len(anchors), -1.0), np.full(len(anchors), -1)
    for n, box in enumerate(boxes):
        overlap = pairwise_iou(anchors, box[None])[:, 0]
        distance = np.linalg.norm(centres - (box[:2] + box[2:]) / 2, axis=1)
        candidates = np.concatenate(
            [
                np.flatnonzero(levels == level)[
                    np.argsort(distance[levels == level], kind="stable")[:topk]
                ]
                for level in range(5)
            ]
        )
        threshold = overlap[candidates].mean() + overlap[candidates].std(ddof=1)
        for a in candidates:
            x, y = centres[a]
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if overlap[a] >= threshold and inside and overlap[a] > best[a]:
                best[a], assigned[a] = overlap[a], n
    return assigned


@pytest.mark.parametrize("size", [(64, 64), (32, 608), (608, 32), (256, 320), (416, 96)])
def test_the_window_finds_what_the_dense_form_finds(size):
    boxes = random_boxes(np.random.default_rng(sum(size)), 15, size, longest=200)
    assigned, counted = assign(*ATSS, [boxes], size)
    np.testing.assert_array_equal(assigned[0], dense_assignment(boxes.astype("float64"), size))
    assert counted.all()


def test_the_scale_of_the_anchors_can_be_another_than_that_of_the_grid():
    boxes = [random_boxes(np.random.default_rng(0), 15, (256, 320))]
    own, _ = assign(ATSSAssigner(anchor_scale=4.0), ATSS[1], boxes, (256, 320))
    of_grid, _ = assign(ATSSAssigner(), AnchorGrid(scale=4.0), boxes, (256, 320))
    usual, _ = assign(*ATSS, boxes, (256, 320))
    np.testing.assert_array_equal(own, of_grid)
    assert np.any(own != usual)


def test_several_anchors_per_cell_are_refused():
    with pytest.raises(ValueError, match="ATSSAssigner needs one anchor per cell, the grid has 9"):
        assign(ATSSAssigner(), NINE_ANCHORS, [np.zeros((1, 4))], (64, 64))
