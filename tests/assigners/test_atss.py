import keras
import numpy as np
import pytest
from common import golden, to_numpy

from keras_gflv2.assigners import ATSSAssigner
from keras_gflv2.boxes import level_shapes

STRIDES = (8, 16, 32, 64, 128)
CASES = (
    "no_gt", "one_gt", "overlapping", "duplicate_gt", "tiny_gt", "tiny_gt_no_centre_inside",
    "huge_gt", "thin_gt", "corner_gt", "ignore_on_thr05", "ties_symmetric", "ties_midcell",
    "grid_aligned_small", "random0", "random1", "random2",
)  # fmt: skip


def assign(boxes, size, image_sizes=None, ignored=None, classes=None):
    """Assignment in one batch; `boxes` is a list of arrays, padded here to one length."""
    length = max(max(len(b) for b in boxes), 1)
    padded = np.zeros((len(boxes), length, 4), "float32")
    labels = np.full((len(boxes), length), -1, "int32")
    for i, b in enumerate(boxes):
        padded[i, : len(b)] = b
        labels[i, : len(b)] = 0
    return to_numpy(
        ATSSAssigner()(padded, labels, level_shapes(*size, STRIDES), STRIDES, image_sizes, ignored)
    )


@pytest.mark.parametrize("case", CASES)
def test_assignment_equals_the_official_one(case):
    data = golden("atss.npz")
    boxes = data[f"{case}__gt_bboxes"]
    ignored = None
    if case == "ignore_on_thr05":
        ignore_boxes = data[f"{case}__gt_ignore"]
        ignored = np.concatenate([np.zeros(len(boxes)), np.ones(len(ignore_boxes))])[None]
        boxes = np.concatenate([boxes, ignore_boxes])
    assigned, counted = assign([boxes], (128, 160), ignored=ignored)
    ours = np.where(counted[0], assigned[0] + 1, -1)
    expected = data[f"{case}__assigned_gt_inds"]
    # Where the 9th and 10th nearest are equally far, either is right, and moves the threshold.
    assert np.sum(ours != expected) <= 4 * data[f"{case}__boundary_ties"]


def test_padding_and_the_rest_of_the_batch_do_not_change_an_assignment():
    data = golden("atss.npz")
    boxes = [data[f"random{i}__gt_bboxes"] for i in range(3)] + [np.zeros((0, 4))]
    together, _ = assign(boxes, (128, 160))
    for i, b in enumerate(boxes):
        alone, _ = assign([b], (128, 160))
        np.testing.assert_array_equal(together[i], alone[0])
    assert np.all(together[3] == -1)


def dense_assignment(boxes, size, topk=9):
    """ATSS written from the paper with all pairs, in numpy; assumes no ties."""
    anchors, levels = [], []
    for level, ((rows, columns), stride) in enumerate(zip(level_shapes(*size, STRIDES), STRIDES)):
        y, x = np.mgrid[:rows, :columns]
        centre = np.stack([x.ravel(), y.ravel()], -1) * float(stride)
        anchors.append(np.concatenate([centre - 4 * stride, centre + 4 * stride], -1))
        levels.append(np.full(rows * columns, level))
    anchors, levels = np.concatenate(anchors), np.concatenate(levels)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
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


def pairwise_iou(a, b):
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(bottom_right - top_left, 0), axis=-1)
    areas = [np.prod(x[:, 2:] - x[:, :2], axis=-1) for x in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


@pytest.mark.parametrize("size", [(64, 64), (32, 608), (608, 32), (256, 320), (416, 96)])
def test_the_window_finds_what_the_dense_form_finds(size):
    rng = np.random.default_rng(sum(size))
    height, width = size
    corner = rng.uniform(-0.1, 0.8, (15, 2)) * [width, height]
    boxes = np.concatenate([corner, corner + rng.uniform(6, 200, (15, 2))], -1).astype("float32")
    assigned, counted = assign([boxes], size)
    np.testing.assert_array_equal(assigned[0], dense_assignment(boxes.astype("float64"), size))
    assert counted.all()


def test_an_image_inside_a_larger_batch_is_assigned_as_if_alone():
    boxes = golden("atss.npz")["random0__gt_bboxes"]
    alone, _ = assign([boxes], (128, 160))
    batched, counted = assign([boxes], (256, 256), image_sizes=np.array([[120, 131]]))
    start_alone = start = 0
    for (rows, columns), (all_rows, all_columns) in zip(
        level_shapes(128, 160, STRIDES), level_shapes(256, 256, STRIDES)
    ):
        small = alone[0, start_alone : start_alone + rows * columns].reshape(rows, columns)
        large = batched[0, start : start + all_rows * all_columns].reshape(all_rows, all_columns)
        np.testing.assert_array_equal(large[:rows, :columns], small)
        inside = counted[0, start : start + all_rows * all_columns].reshape(large.shape)
        assert inside[:rows, :columns].all() and inside.sum() == rows * columns
        start_alone, start = start_alone + rows * columns, start + all_rows * all_columns


def test_assigner_survives_serialisation():
    assigner = ATSSAssigner(topk=5, ignore_threshold=0.7)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(assigner))
    assert copy.get_config() == assigner.get_config()
