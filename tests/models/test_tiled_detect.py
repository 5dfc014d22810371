"""`detect` of large images in tiles, and what it returns for libraries that draw."""

import numpy as np
import pytest
from common import to_numpy
from keras import ops
from PIL import Image
from serving.conftest import cells

from keras_gflv2.boxes import iou
from keras_gflv2.postprocessing import TestTimeAugmentation


def matched(found, wanted, threshold=0.5):
    """Fraction of the surer detections that are there with IoU above 0.7, of the same class."""
    sure = wanted.rows(wanted["confidence"] > threshold)
    assert len(sure["boxes"]) >= 5
    ours, theirs = (ops.convert_to_tensor(one["boxes"]) for one in (sure, found))
    overlaps = to_numpy(iou(ours[:, None], theirs[None]))
    overlaps = overlaps * (sure["classes"][:, None] == found["classes"][None])
    return (overlaps.max(axis=1) > 0.7).mean()


def test_one_tile_is_the_whole_image(nano):
    image = cells(0, (240, 320))
    (whole,) = nano.detect(image, coverage=0.8)
    (tiled,) = nano.detect(image, coverage=0.8, tile=(240, 320))
    assert len(whole["boxes"]) and set(whole) == set(tiled)
    for name in ("boxes", "confidence", "intervals"):
        np.testing.assert_allclose(tiled[name], whole[name], atol=1e-3)


def test_tiles_find_what_the_whole_image_shows_at_their_scale(nano):
    image = np.concatenate([cells(seed, (240, 320)) for seed in range(3)], axis=1)
    (whole,) = nano.detect(image, 0.1, image_size=(240, 960))
    both = image, image[:, :320]
    tiled, small = nano.detect(list(both), 0.1, image_size=(240, 240), tile=240, overlap=0.5)
    assert matched(tiled, whole) > 0.9 and matched(whole, tiled) > 0.9
    assert (tiled["boxes"][:, 2] > 600).any() and (small["boxes"][:, 2] <= 320).all()
    assert len(tiled["class_names"]) == len(tiled["uncertainties"]) == len(tiled["boxes"])


def test_views_look_at_tiles_too(nano):
    image = cells(0, (240, 480))
    views = TestTimeAugmentation(nano, scales=(1.0,), flips=False)
    options = {"image_size": (240, 240), "tile": 240, "overlap": 0.5}
    (one,), (other,) = (detector.detect(image, 0.2, **options) for detector in (nano, views))
    np.testing.assert_allclose(one["boxes"], other["boxes"], atol=0.1)
    with pytest.raises(ValueError, match="`overlap`"):
        nano.detect(image, tile=240, overlap=2)


def test_detections_of_supervision_are_the_same(nano):
    supervision = pytest.importorskip("supervision")
    image = cells(0, (240, 320))
    (found,) = nano.detect(Image.fromarray(image))
    theirs = found.to_supervision()
    assert len(theirs) == len(found["boxes"]) > 0
    np.testing.assert_array_equal(theirs.xyxy, found["boxes"])
    np.testing.assert_array_equal(theirs.class_id, found["classes"])
    assert theirs.data["class_name"].tolist() == found["class_names"]
    surest = theirs[theirs.confidence >= found["confidence"][0]]
    np.testing.assert_array_equal(surest.data["uncertainties"], found["uncertainties"][:1])
    assert (supervision.BoxAnnotator().annotate(image.copy(), theirs) != image).any()
    assert len(found.rows(found["confidence"] > 2).to_supervision()) == 0
