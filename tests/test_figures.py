"""The numbers behind the figures of the paper, on scenes of which they are known."""

import numpy as np
import pytest
from common import small_detector
from PIL import Image

from keras_gflv2.visualization import figures
from keras_gflv2.visualization.figures.side_distributions import bins_on_image

NUM_BINS = 5


def scene(boxes, top_1, truth, **changes):
    """A `Scene` of 100 x 100 pixels with a location for each box, all detected and of class 0.

    Args:
        boxes: list of xyxy.
        top_1: of all four sides of each box; what is left is shared by the other bins.
        truth: list of xyxy, of class 0.
        **changes: attributes of the scene.
    """
    boxes, top_1 = np.float32(boxes), np.float32(top_1)
    rest = (1 - top_1) / (NUM_BINS - 1)
    distributions = np.broadcast_to(rest[:, None, None], (len(boxes), 4, NUM_BINS)).copy()
    distributions[..., 2] = top_1[:, None]
    score = np.linspace(0.9, 0.5, len(boxes)).astype("float32")
    found = {"boxes": boxes, "classes": np.zeros(len(boxes), int), "confidence": score}
    values = {
        "image": np.zeros((100, 100, 3), "uint8"),
        "true_boxes": np.float32(truth),
        "true_classes": np.zeros(len(truth), int),
        "object_index": np.zeros(len(boxes), int),
        "points": (boxes[:, :2] + boxes[:, 2:]) / 2,
        "strides": np.full((len(boxes), 1), 8.0),
        "boxes": boxes,
        "distributions": distributions,
        "bin_sizes": np.full((len(boxes), 4), 8.0),
        "spread": np.ones((len(boxes), 4)),
        "scores": score[:, None],
        "class_scores": score[:, None],
        "quality": np.ones(len(boxes), "float32"),
        "detections": {**found, "locations": np.arange(len(boxes))},
    }
    return figures.Scene(**{**values, **changes})


TRUTH = [[20, 20, 60, 60]]
# IoU with the object: 1, 3 / 4 and 1 / 2.
BOXES = [[20, 20, 60, 60], [20, 20, 60, 50], [20, 20, 60, 40]]


@pytest.mark.parametrize("of", ["positives", "detections"])
def test_scatter_has_the_top_1_and_the_iou_of_each_box(of, tmp_path):
    one = scene(BOXES, [0.9, 0.7, 0.5], TRUTH)
    other = scene(BOXES[:1], [0.5], TRUTH, object_index=np.array([-1]))
    data = figures.quality_scatter([one, other], of)
    expected = ([0.9, 0.7, 0.5], [1, 0.75, 0.5])
    if of == "detections":
        expected = ([*expected[0], 0.5], [*expected[1], 1])
    np.testing.assert_allclose([data["top_1"], data["iou"]], expected, rtol=1e-6)
    assert data["correlation"] == pytest.approx(np.corrcoef(*expected)[0, 1])
    figures.draw_quality_scatter(data, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size[0] > 300


def test_detections_of_another_class_overlap_nothing():
    other = scene(BOXES, [0.9, 0.7, 0.5], TRUTH, true_classes=np.array([1]))
    data = figures.quality_scatter([other], "detections")
    np.testing.assert_array_equal(data["iou"], 0)


def test_the_sharpest_and_the_flattest_box_are_chosen(tmp_path):
    """Not the sharper ones that the image cuts, that match nothing, or that are unsure."""
    boxes = [*BOXES, [0, 20, 60, 60], [70, 70, 90, 90]]
    top_1 = [0.6, 0.8, 0.4, 0.99, 0.98]
    examples = figures.side_distributions([scene(boxes, top_1, [*TRUTH, [0, 20, 60, 60]])])
    assert [example["kind"] for example in examples] == ["sharp", "flat"]
    np.testing.assert_allclose([e["top_1"] for e in examples], [0.8, 0.4], rtol=1e-6)
    np.testing.assert_allclose([e["iou"] for e in examples], [0.75, 0.5], rtol=1e-6)
    # The location is at (40, 35), its bins are 8 pixels apart, from there to each side.
    away = 8 * np.arange(NUM_BINS)
    expected = [40 - away, 35 - away, 40 + away, 35 + away]
    np.testing.assert_allclose(examples[0]["bins"], expected)
    (only,) = figures.side_distributions([scene(BOXES, top_1[:3], TRUTH)], min_score=0.8)
    assert only["top_1"] == pytest.approx(0.6)
    for draw in (figures.draw_side_distributions, figures.draw_statistics):
        path = tmp_path / f"{draw.__name__}.webp"
        draw(examples, path)
        assert Image.open(path).format == "WEBP"
    with pytest.raises(ValueError, match="No detection"):
        figures.side_distributions([scene(BOXES, top_1[:3], TRUTH)], min_score=0.95)


def test_suppression_compares_the_boxes_that_are_first_by_either_score(tmp_path):
    """The best box is third by the class score, and first by the joint one."""
    quality = np.float32([0.5, 0.6, 0.9])
    classes = np.float32([[0.8], [0.7], [0.6]])
    of_object = scene(
        BOXES[::-1], [0.5] * 3, TRUTH,
        quality=quality, class_scores=classes, scores=classes * quality[:, None],
    )  # fmt: skip
    nothing_to_suppress = scene(BOXES[:1], [0.5], TRUTH)
    data = figures.suppression([nothing_to_suppress, of_object])
    (example,) = data["examples"]
    assert data["num_objects"] == 1
    assert (data["iou_joint"], data["iou_class"], data["iou_best"]) == pytest.approx((1, 0.5, 1))
    np.testing.assert_allclose(example["joint"], [0.54, 0.42, 0.4], rtol=1e-6)
    np.testing.assert_allclose(example["iou"], [1, 0.75, 0.5], rtol=1e-6)
    np.testing.assert_array_equal(example["boxes"], BOXES)
    assert example["first_by_class"] == 2
    figures.draw_suppression(data, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="two candidates"):
        figures.suppression([nothing_to_suppress])


def test_speed_is_read_from_milliseconds_or_images_per_second(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("format,precision,milliseconds,AP\nonnx,int8,8.0,0.57\nkeras,,,0.5\n")
    expected = {"series": "onnx", "point": "int8", "milliseconds": 8.0, "AP": 0.57}
    assert figures.speed_accuracy(table) == [expected]
    rows = [{"method": "a", "backbone": "R50", "images_per_second": 20, "AP": 0.4}]
    (point,) = figures.speed_accuracy(rows)
    assert point == {"series": "a", "point": "R50", "milliseconds": 50, "AP": 0.4}
    figures.draw_speed_accuracy([expected, point], tmp_path / "a.svg")
    assert "onnx" in (tmp_path / "a.svg").read_text()
    with pytest.raises(ValueError, match="needs the columns"):
        figures.speed_accuracy([{"method": "a", "AP": 0.4}])
    with pytest.raises(ValueError, match="No row"):
        figures.speed_accuracy([{"method": "a", "milliseconds": "", "AP": 0.4}])


def test_losses_are_those_of_the_log(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("epoch,classification_loss\n0,0.5\n1,0.25\n")
    curves = figures.quality_losses({"GFLV2": log})
    assert curves == {"GFLV2": {"epochs": [1, 2], "loss": [0.5, 0.25]}}
    figures.draw_quality_loss(curves, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="box_loss"):
        figures.quality_losses({"GFLV2": log}, "box_loss")


def test_scenes_are_what_the_detector_predicts(trained):
    model, batch = trained
    scenes = list(figures.scenes_of(model, [batch]))
    expected = model.predict_on_batch(batch["images"])
    assert len(scenes) == len(batch["images"])
    for row, found in enumerate(scenes):
        kept = found.detections
        count = int(expected["num_detections"][row])
        assert len(kept["boxes"]) == count > 0
        np.testing.assert_allclose(kept["boxes"], expected["boxes"][row][:count], atol=1e-2)
        spread = found.spread[kept["locations"]]
        np.testing.assert_allclose(spread, expected["uncertainties"][row][:count], atol=1e-2)
        # A distribution's mean, over where its bins are on the image, is the side of the box.
        for location in range(0, len(found.boxes), 7):
            bins = bins_on_image(found, location)
            means = (found.distributions[location] * bins).sum(axis=-1)
            box = found.boxes[location]
            np.testing.assert_allclose(np.clip(means, 0, [128, 96] * 2), box, atol=1e-2)
        product = found.class_scores * found.quality[:, None]
        np.testing.assert_allclose(product, found.scores, atol=1e-5)
        assert found.object_index.max() == (found.true_classes >= 0).sum() - 1


def test_detectors_without_distributions_have_no_such_figures(trained):
    _, batch = trained
    (one, _) = figures.scenes_of(small_detector("FCOS"), [batch])
    assert one.distributions is None and one.quality.shape == one.scores.shape[:1]
    for figure in (figures.quality_scatter, figures.side_distributions):
        with pytest.raises(ValueError, match="general distributions"):
            figure([one])
