"""Several views of one image give one set of detections, in the pixels of that image."""

import keras
import numpy as np
import pytest
from common import assert_same_detections, to_numpy

from keras_gflv2.postprocessing import TestTimeAugmentation
from keras_gflv2.postprocessing.test_time_augmentation import vote

pytestmark = pytest.mark.usefixtures("without_graphs")  # every view has a size of its own


def test_one_view_is_the_model_itself(trained):
    model, batch = trained
    inputs = {"images": batch["images"], "image_sizes": np.array([[90, 100], [96, 128]], "int32")}
    expected = model.predict_on_batch(inputs)
    found = TestTimeAugmentation(model, scales=(1.0,), flips=False).predict_on_batch(inputs)
    assert expected["num_detections"].min() > 0
    np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
    assert_same_detections(found, expected, score=1e-4, pixels=1e-2)


def test_the_mirror_view_of_mirrored_images_is_the_view_itself(trained):
    """Flips on: an image and its mirror image have mirrored detections."""
    model, batch = trained
    tta = TestTimeAugmentation(model, scales=(1.0,), flips=True)
    found = tta.predict(batch["images"], verbose=0)
    mirrored = tta.predict(batch["images"][:, :, ::-1].copy(), verbose=0)
    assert found["num_detections"].min() > 0
    mirrored["boxes"][..., [0, 2]] = 128 - mirrored["boxes"][..., [2, 0]]
    mirrored["uncertainties"] = mirrored["uncertainties"][..., [2, 1, 0, 3]]
    assert_same_detections(mirrored, found, score=1e-4, pixels=1e-2, threshold=0.05)


@pytest.mark.parametrize("box_voting", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_boxes_of_a_scaled_view_are_in_pixels_of_the_batch(trained, scale, box_voting):
    """What is found in the scaled view alone, is what the model finds in a scaled image."""
    model, batch = trained
    tta = TestTimeAugmentation(model, scales=(scale,), flips=False, box_voting=box_voting)
    found = tta.predict(batch["images"], verbose=0)
    size = (round(96 * scale), round(128 * scale))
    scaled = keras.ops.image.resize(batch["images"], size)
    expected = model.predict(to_numpy(scaled), verbose=0)
    assert expected["num_detections"].min() > 0
    boxes, spread = expected["boxes"] / scale, expected["uncertainties"] / scale
    if box_voting:  # which moves boxes and leaves the rest
        np.testing.assert_array_equal(found["num_detections"], expected["num_detections"])
        np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=1e-4)
        assert np.abs(found["boxes"] - boxes).max() > 0.01
        present = spread > 0
        assert np.abs(found["uncertainties"] - spread)[present].max() > 0.01
        assert np.array_equal(found["uncertainties"] > 0, present)
    else:
        expected = {**expected, "boxes": boxes, "uncertainties": spread}
        assert_same_detections(found, expected, score=1e-4, pixels=1e-2, threshold=0.05)


def test_keras_may_be_configured_for_channels_first(trained):
    """Images are (B, H, W, 3) whatever keras.json says."""
    model, batch = trained
    tta = TestTimeAugmentation(model, scales=(0.5,), flips=False)
    expected = to_numpy(tta(batch["images"]))
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        found = to_numpy(tta(batch["images"]))
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=1e-3)


def test_vote_is_the_mean_of_overlapping_candidates_of_the_class():
    boxes = np.float32([[[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11], [50, 50, 60, 60]]])
    scores = np.float32([[[0.6, 0], [0.2, 0], [0, 0.9], [0.5, 0]]])
    detections = {"boxes": boxes[:, [0, 3]], "classes": np.int32([[0, 0]])}
    inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, (detections, scores, boxes))
    found = to_numpy(vote(*inputs))
    np.testing.assert_allclose(found[0, 0], [0.25, 0, 10.25, 10], atol=1e-5)
    np.testing.assert_allclose(found[0, 1], boxes[0, 3], atol=1e-4)


def test_uncertainties_are_merged_by_the_weights_of_the_vote():
    """Also where a box has no area, and so no candidate that overlaps it."""
    boxes = np.float32([[[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 50, 60]]])
    spread = np.float32([[[1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]]])
    scores = np.float32([[[0.6], [0.2], [0.5]]])
    detections = {
        "boxes": boxes[:, [0, 2]],
        "classes": np.int32([[0, 0]]),
        "uncertainties": spread[:, [0, 2]],
    }
    inputs = (detections, scores, np.concatenate([boxes, spread], axis=-1))
    found = to_numpy(vote(*keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)))
    np.testing.assert_allclose(found[0, 0], [0.25, 0, 10.25, 10, 2, 3, 4, 5], atol=1e-5)
    np.testing.assert_allclose(found[0, 1], [50, 50, 50, 60, 9, 9, 9, 9], atol=1e-4)


def test_it_stands_in_for_the_model(trained):
    model, batch = trained
    tta = TestTimeAugmentation(model, scales=(1.0, 1.25))
    assert (tta.num_classes, tta.bounding_box_format) == (3, "xyxy")
    (found,) = tta.detect([batch["images"][0].astype("uint8")], 0.05, image_size=(96, 128))
    assert len(found["boxes"]) > 0 and found["boxes"].max() <= 128
    assert found["uncertainties"].shape == found["boxes"].shape
    assert np.all(found["uncertainties"] > 0)
    from keras_gflv2.evaluation import evaluate_coco

    assert evaluate_coco(tta, [batch], verbose=0)["AP"] >= 0
    with pytest.raises(ValueError, match="scales"):
        TestTimeAugmentation(model, scales=(0,))


def test_the_padding_color_has_its_old_name_too(trained):
    tta = TestTimeAugmentation(trained[0])
    for detector in (trained[0], tta):
        assert detector.padding_color == detector.padding_colour == (123.675, 116.28, 103.53)
