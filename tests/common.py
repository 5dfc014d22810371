"""What tests share: golden arrays of the official implementation, small models, comparisons.

`small_model()` makes a new detector in half a second; what is dearer is made once a session, as
fixtures of `conftest.py`: `trained` (a small detector and the batch that it has learnt by heart),
`compiled` (one that runs step by step, for what is refused before it trains) and `nano` (the
embedded detector). A test that changes one of them takes `copy_of` it. `small_detector(name)` makes
one of each kind that the package has, `DETECTORS`.

`assert_same_detections` compares what was found whatever the order of equal scores: rows of near
ties change places from one processor, backend or number of threads to another.
"""

import socket
from pathlib import Path

import keras
import numpy as np

import keras_gflv2

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared"


def golden(name):
    """One file of golden arrays."""
    return np.load(GOLDEN / name)


def nhwc(array):
    """(B, C, H, W) -> (B, H, W, C)"""
    return np.transpose(array, (0, 2, 3, 1))


def nchw(array):
    """(B, H, W, C) -> (B, C, H, W)"""
    return np.transpose(array, (0, 3, 1, 2))


def to_numpy(structure):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, structure)


def two_free_ports():
    """Ports of this machine that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("localhost", 0))
        other.bind(("localhost", 0))
        return one.getsockname()[1], other.getsockname()[1]


def tiny_backbone():
    """Five strided convolutions: a Keras model with pyramid outputs, quick to trace."""
    x = inputs = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 64, offset=-2)(x)
    outputs = {}
    for level, channels in enumerate((8, 16, 16, 16, 16), start=1):
        x = keras.layers.Conv2D(
            channels, 3, 2, "same", activation="relu", kernel_initializer="he_normal"
        )(x)
        if level >= 3:
            outputs[f"P{level}"] = x
    return keras.Model(inputs, outputs)


SMALL = {"fpn_channels": 16, "head_channels": 16, "head_depth": 1}
PLAIN_FCOS = {
    "center_radius": None,
    "normalized_distances": False,
    "centerness_tower": "classification",
    "giou": False,
}
# Class, and arguments beside those of `SMALL`; functions make layers, which are of one detector.
DETECTORS = {
    "GFLV2": ("GFLV2", {"head_norm_groups": 4}),
    "GFLV1": ("GFLV1", {"head_norm_groups": 4}),
    "ATSS": ("ATSS", {"head_norm_groups": 4}),
    "FCOS": ("FCOS", {"head_norm_groups": 4}),
    "plain FCOS": ("FCOS", {"head_norm_groups": 4, **PLAIN_FCOS}),
    "FoveaBox": ("FoveaBox", {}),
    "RetinaNet": ("RetinaNet", {}),
    "guided ATSS": ("ATSS", {"head_norm_groups": 4, "distribution_guided": True}),
    "guided FCOS": ("FCOS", {"head_norm_groups": 4, "distribution_guided": True}),
    "guided FoveaBox": ("FoveaBox", {"distribution_guided": True}),
    "guided RetinaNet": ("RetinaNet", {"distribution_guided": True}),
    "composed": (
        "DenseDetector",
        {"head_norm_groups": 4, "quality": lambda: keras_gflv2.layers.ComposedQuality(8)},
    ),
    "sampled": (
        "DenseDetector",
        {
            "head_norm_groups": 4,
            "quality": lambda: keras_gflv2.layers.SampledQuality(
                keras_gflv2.layers.DeformableSampler(), channels=8, hidden=8
            ),
        },
    ),
}


def small_model(num_classes=3, seed=0, backbone=None, **kwargs):
    """A GFLV2 that a test can afford to compile: a head of one convolution."""
    return small_detector("GFLV2", num_classes, seed, backbone, **kwargs)


def small_detector(name, /, num_classes=3, seed=0, backbone=None, **kwargs):
    """One of `DETECTORS`, as small as `small_model`."""
    keras.utils.set_random_seed(seed)
    kind, own = DETECTORS[name]
    own = {key: value() if callable(value) else value for key, value in own.items()}
    detector = getattr(keras_gflv2, kind)
    return detector(backbone or tiny_backbone(), num_classes, **{**SMALL, **own, **kwargs})


def copy_of(model):
    """A small model with the weights of another, neither compiled nor trained."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def random_batch(seed=0, batch=2, size=(96, 128), boxes=3, num_classes=3):
    """Images with some boxes (xyxy pixels) each; the last row of boxes is padding."""
    rng = np.random.default_rng(seed)
    height, width = size
    corner = rng.uniform(0, 0.6, (batch, boxes, 2)) * [width, height]
    extent = rng.uniform(0.2, 0.4, (batch, boxes, 2)) * [width, height]
    classes = rng.integers(0, num_classes, (batch, boxes))
    classes[:, -1] = -1
    return {
        "images": rng.uniform(0, 255, (batch, height, width, 3)).astype("float32"),
        "bounding_boxes": {
            "boxes": np.concatenate([corner, corner + extent], -1).astype("float32"),
            "classes": classes.astype("int32"),
        },
    }


def truth_of(batch, image):
    """Boxes and classes of one image of a batch, without the padding."""
    boxes, classes = (batch["bounding_boxes"][key][image] for key in ("boxes", "classes"))
    return boxes[classes >= 0], classes[classes >= 0]


def pairwise_iou(boxes, others):
    """IoU of every box (N, 4) with every other (M, 4), xyxy."""
    boxes, others = np.asarray(boxes, "float64")[:, None], np.asarray(others, "float64")[None]
    corner = np.maximum(boxes[..., :2], others[..., :2])
    shared = (np.minimum(boxes[..., 2:], others[..., 2:]) - corner).clip(0).prod(-1)
    areas = [(b[..., 2:] - b[..., :2]).prod(-1) for b in (boxes, others)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)


SETS = ("boxes", "classes", "confidence", "uncertainties")


def assert_same_detections(
    found, expected, score=1e-3, pixels=0.5, threshold=None, uncertainty=None
):
    """Each detection has a partner of its class, its box and its score; their order is free.

    Args:
        found, expected: {"boxes" (N, 4), "classes" (N,), "confidence" (N,)} of one image, or with
            a batch dimension, as `predict` returns them; rows of class -1 are padding. Where both
            have "uncertainties" (N, 4), those of partners are compared, too.
        score, pixels: how far scores and sides of boxes may be from each other.
        uncertainty: likewise those of the sides; as `pixels` if None.
        threshold: where detections end, a score threshold or the last score that had a place: so
            near to it a detection may be missing on one side.
    """
    if np.ndim(found["boxes"]) == 3:
        assert len(found["boxes"]) == len(expected["boxes"])
        for i in range(len(found["boxes"])):
            keys = [key for key in SETS if key in found and key in expected]
            rows = [{key: side[key][i] for key in keys} for side in (found, expected)]
            assert_same_detections(*rows, score, pixels, threshold, uncertainty)
        return
    ours, theirs = (_rows_of(side) for side in (found, expected))
    (boxes, classes, scores, spread), (other_boxes, other_classes, other_scores, _) = ours, theirs
    distance = np.abs(boxes[:, None] - other_boxes[None]).max(-1, initial=0.0)
    near = (distance <= pixels) & (classes[:, None] == other_classes[None])
    near &= np.abs(scores[:, None] - other_scores[None]) <= score
    if spread is not None and theirs[3] is not None:
        limit = pixels if uncertainty is None else uncertainty
        near &= np.abs(spread[:, None] - theirs[3][None]).max(-1, initial=0.0) <= limit
    partner = _pairs(near, distance)
    alone = [row for row in range(len(boxes)) if row not in partner]
    others_alone = sorted(set(range(len(other_boxes))) - set(partner.values()))
    if threshold is not None:
        alone = [row for row in alone if scores[row] > threshold + score]
        others_alone = [row for row in others_alone if other_scores[row] > threshold + score]
    lines = [_line("found alone", ours, row) for row in alone]
    lines += [_line("expected, not found", theirs, row) for row in others_alone]
    assert not lines, f"{len(boxes)} found, {len(other_boxes)} expected:\n" + "\n".join(lines)


def _rows_of(detections):
    """Boxes, classes, scores and uncertainties or None, without padding; the scores fall."""
    boxes, classes, scores = (np.asarray(detections[key]) for key in SETS[:3])
    assert np.all(np.diff(scores) <= 0), "the surest detection does not come first"
    present = classes >= 0
    spread = detections.get("uncertainties")
    boxes, spread = (
        None if sides is None else np.asarray(sides)[present].reshape(-1, 4).astype("float64")
        for sides in (boxes, spread)
    )
    return boxes, classes[present], scores[present], spread


def _pairs(near, distance):
    """Row -> column of the largest matching of rows with near columns, the nearest tried first."""
    row_of = {}

    def place(row, tried):
        for column in np.argsort(distance[row]):
            if near[row, column] and column not in tried:
                tried.add(column)
                if column not in row_of or place(row_of[column], tried):
                    row_of[column] = row
                    return True
        return False

    for row in range(len(near)):
        place(row, set())
    return {row: int(column) for column, row in row_of.items()}


def _line(what, rows, row):
    boxes, classes, scores, spread = rows
    said = f"{what}: class {classes[row]}, score {scores[row]:.5f}, box {boxes[row].round(2)}"
    return said if spread is None else f"{said}, uncertainties {spread[row].round(4)}"
