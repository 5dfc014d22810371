"""What is found in an image does not depend on the images beside it in its batch."""

import numpy as np
import pytest
from keras import utils

from keras_gflv2 import canvases
from keras_gflv2.evaluation import coco_results, evaluate_coco

SIZES = [(40, 90), (90, 40), (50, 80), (64, 96), (20, 30), (80, 50), (45, 70)]


class FindsBrightRectangle:
    """Its box is where an image is white; its score, as a real one's, depends on the padding."""

    num_classes, class_names = 1, None
    padding_color = (10.0, 20.0, 30.0)

    def __init__(self, bounding_box_format="xyxy"):
        self.bounding_box_format = bounding_box_format
        self.seen = []

    def predict_on_batch(self, inputs):
        images = inputs["images"]
        self.seen.append(inputs)
        boxes = []
        for image in images:
            rows, columns = np.nonzero((image > 250).all(axis=-1))
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        boxes = utils.bounding_boxes.convert_format(
            np.float32(boxes)[:, None],
            source="xyxy",
            target=self.bounding_box_format,
            height=images.shape[1],
            width=images.shape[2],
        )
        scores = images.mean(axis=(1, 2, 3))[:, None] / 255
        return {"boxes": boxes, "classes": np.zeros((len(images), 1), int), "confidence": scores}


class Batches(list):
    """Batches in a list, with the attributes of a loader."""


def padded_batches(batch_size, bounding_box_format="xyxy"):
    """Images of SIZES with a white rectangle each, padded with black to the largest of a batch."""
    random = np.random.default_rng(0)
    batches = Batches()
    batches.bounding_box_format = bounding_box_format
    for start in range(0, len(SIZES), batch_size):
        sizes = np.array(SIZES[start : start + batch_size])
        canvas = -(-sizes.max(axis=0) // 32) * 32
        images = np.zeros((len(sizes), *canvas, 3), "float32")
        boxes = []
        for image, (height, width) in zip(images, sizes):
            x, y = random.integers(0, 5, 2)
            image[:height, :width] = 100
            image[y : height - 6, x : width - 7] = 255
            boxes.append([x, y, width - 7, height - 6])
        boxes = utils.bounding_boxes.convert_format(
            np.float32(boxes)[:, None],
            source="xyxy",
            target=bounding_box_format,
            height=int(canvas[0]),
            width=int(canvas[1]),
        )
        truth = {"boxes": boxes, "classes": np.zeros((len(sizes), 1), "int32")}
        batches.append(
            {
                "images": images,
                "bounding_boxes": truth,
                "image_sizes": sizes,
                "image_ids": np.arange(start, start + len(sizes)) * 10,
            }
        )
    return batches


@pytest.mark.parametrize("waiting_bytes", [canvases.WAITING_BYTES, 0])
def test_results_are_those_of_each_image_alone(monkeypatch, waiting_bytes):
    """Boxes, scores and order, also where no image may wait for another."""
    monkeypatch.setattr(canvases, "WAITING_BYTES", waiting_bytes)
    alone = coco_results(FindsBrightRectangle(), padded_batches(1), verbose=0)
    assert [result["image_id"] for result in alone] == [0, 10, 20, 30, 40, 50, 60]
    for batch_size in (2, 3, 7):
        together = coco_results(FindsBrightRectangle(), padded_batches(batch_size), verbose=0)
        assert together == alone


def test_images_of_one_canvas_run_together_across_batches():
    model = FindsBrightRectangle()
    evaluate_coco(model, padded_batches(2), verbose=0)
    # 64 x 96 pixels hold four of the seven images.
    shapes = [inputs["images"].shape[:3] for inputs in model.seen]
    assert sorted(shapes) == [(1, 32, 32), (2, 64, 96), (2, 64, 96), (2, 96, 64)]
    for inputs in model.seen:
        for image, (height, width) in zip(inputs["images"], inputs["image_sizes"]):
            assert (image[height:] == model.padding_color).all()
            assert (image[:, width:] == model.padding_color).all()
            assert (image[:height, :width] != model.padding_color).all()


@pytest.mark.parametrize("true_format", ["xyxy", "rel_yxyx"])
@pytest.mark.parametrize("model_format", ["rel_xyxy", "rel_center_xywh", "xywh"])
def test_relative_boxes_are_of_the_canvas_that_they_come_from(true_format, model_format):
    """Truth refers to the padded batch, detections to the canvas that the model saw."""
    dataset = padded_batches(3, true_format)
    metrics = evaluate_coco(FindsBrightRectangle(model_format), dataset, verbose=0)
    assert metrics["AP"] == pytest.approx(1.0)


def test_a_batch_without_image_sizes_runs_as_it_is():
    batches = padded_batches(3)
    for batch in batches:
        del batch["image_sizes"]
    model = FindsBrightRectangle()
    assert evaluate_coco(model, batches, verbose=0)["AP"] == pytest.approx(1.0)
    assert [inputs["images"].shape for inputs in model.seen] == [
        batch["images"].shape for batch in batches
    ]
    np.testing.assert_array_equal(model.seen[0]["images"], batches[0]["images"])
    assert all("image_sizes" not in inputs for inputs in model.seen)


@pytest.mark.parametrize("size", [[0, 90], [40, 500]])
def test_image_sizes_outside_of_their_batch_are_an_error(size):
    batches = padded_batches(3)
    batches[1]["image_sizes"][2] = size
    with pytest.raises(ValueError, match=r"Image 5 .*id 50.*image_sizes"):
        evaluate_coco(FindsBrightRectangle(), batches, verbose=0)
