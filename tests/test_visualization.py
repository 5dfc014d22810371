"""Drawings show the boxes where they are, in the colour of their class."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from keras_gflv2.visualization import (
    class_colour,
    draw_detections,
    draw_gallery,
    draw_validation,
)

GREY = np.full((240, 320, 3), 100, "uint8")
ONE = {"boxes": [[40, 60, 140, 160]], "classes": [1], "confidence": [0.87]}


def pixels_of(picture, colour):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((np.asarray(picture) == colour).all(axis=-1))


def test_box_is_drawn_on_its_sides_and_nowhere_else():
    picture = draw_detections(GREY, ONE, ["cat", "dog"])
    drawn = np.asarray(picture)
    assert drawn.shape == GREY.shape and drawn.dtype == np.uint8
    colour = class_colour(1)
    for x, y in ((40, 110), (139, 110), (90, 159), (90, 60)):
        assert tuple(drawn[y, x]) == colour
    rows, columns = pixels_of(picture, colour)
    # The tag is above the box; nothing left of, right of or below it.
    assert (columns.min(), columns.max(), rows.max()) == (40, 139, 159)
    assert rows.min() < 55
    assert tuple(drawn[110, 90]) == (100, 100, 100)  # the inside stays
    assert tuple(GREY[110, 40]) == (100, 100, 100)  # and so does the user's array


def test_bands_reach_one_standard_deviation_to_both_sides():
    sure = {**ONE, "uncertainties": [[4, 6, 8, 10]]}
    plain = np.asarray(draw_detections(GREY, sure, ["cat", "dog"])).astype(int)
    drawn = np.asarray(draw_detections(GREY, sure, ["cat", "dog"], draw_uncertainties=True))
    for row, (first, last) in ((110, (36, 43)), (110, (132, 147))):  # left and right of the box
        assert (drawn[row, first : last + 1] != GREY[row, first : last + 1]).any(-1).all()
        for beyond in (first - 1, last + 1):
            assert (drawn[row, beyond] == 100).all()
    for first, last in ((54, 65), (150, 169)):  # at its top, and at its bottom
        assert (drawn[first : last + 1, 135] != 100).any(-1).all()
    assert (drawn[66, 90] == drawn[149, 90]).all() and (drawn[149, 90] == 100).all()
    assert (drawn[170, 90] == 100).all()
    colour = np.array(class_colour(1))
    sides = (plain == colour).all(-1)
    assert (drawn[sides] == colour).all()  # sides and tag stay on top
    band = drawn[110, 38].astype(int) - 100
    assert (np.sign(band) == np.sign(colour - 100)).all() and (band != colour - 100).any()
    # Bands of a small box meet, one at the edge of the image is cut.
    small = {"boxes": [[-5, 0, 6, 9]], "classes": [1], "uncertainties": [[9, 9, 9, 9]]}
    drawn = np.asarray(draw_detections(GREY, small, draw_uncertainties=True))
    assert (drawn[:18, :15] != 100).any(-1).all() and (drawn[:, 60:] == 100).all()


def test_bands_of_intervals_reach_from_end_to_end():
    ends = [[[30, 45], [50, 62], [135, 160], [140, 155]]]
    drawn = np.asarray(draw_detections(GREY, {**ONE, "intervals": ends}, draw_intervals=True))
    changed = (drawn != 100).any(-1)
    assert changed[110, 30:45].all() and not changed[110, 29] and not changed[110, 46]
    assert changed[110, 136:160].all() and not changed[110, 134] and not changed[110, 160]
    assert changed[51:62, 130].all() and not changed[63, 130]
    assert changed[141:155, 90].all() and not changed[139, 90] and not changed[156, 90]
    gallery = draw_gallery([GREY], [{**ONE, "intervals": ends}], draw_intervals=True)
    plain = draw_gallery([GREY], [{**ONE, "intervals": ends}])
    assert (np.asarray(gallery) != np.asarray(plain)).any()
    with pytest.raises(ValueError, match="no intervals to draw"):
        draw_detections(GREY, ONE, draw_intervals=True)


def test_uncertainties_that_are_not_there_are_not_drawn():
    with pytest.raises(ValueError, match="no uncertainties to draw"):
        draw_detections(GREY, ONE, draw_uncertainties=True)
    with pytest.raises(ValueError, match="no uncertainties to draw"):
        draw_gallery([GREY], [ONE], draw_uncertainties=True)
    one = {**ONE, "uncertainties": [[4, 4, 4, 4]]}
    gallery = draw_gallery([GREY], [one], [ONE], cell_size=320, draw_uncertainties=True)
    plain = draw_gallery([GREY], [one], [ONE], cell_size=320)
    changed = np.nonzero((np.asarray(gallery) != np.asarray(plain)).any(-1))
    assert len(changed[1]) and changed[1].min() > gallery.width / 2  # not in the ground truth


def test_classes_have_different_colours():
    assert len({class_colour(label) for label in range(80)}) == 80


def test_label_and_confidence_are_written():
    plain = np.asarray(draw_detections(GREY, ONE, ["cat", "dog"]))
    other_name = np.asarray(draw_detections(GREY, ONE, ["cat", "cow"]))
    other_score = np.asarray(draw_detections(GREY, {**ONE, "confidence": [0.42]}, ["cat", "dog"]))
    own_name = np.asarray(draw_detections(GREY, {**ONE, "class_names": ["dog"]}))
    assert (plain != other_name).any() and (plain != other_score).any()
    assert (plain == own_name).all()


def test_padding_and_unsure_detections_are_left_out():
    padded = {"boxes": [[-1, -1, -1, -1]], "classes": [-1], "confidence": [-1.0]}
    assert (np.asarray(draw_detections(GREY, padded)) == GREY).all()
    assert (np.asarray(draw_detections(GREY, ONE, score_threshold=0.9)) == GREY).all()
    empty = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0)}
    assert (np.asarray(draw_detections(GREY, empty)) == GREY).all()


def test_a_score_of_zero_is_compared_with_the_threshold():
    none = {**ONE, "confidence": [0.0]}
    assert (np.asarray(draw_detections(GREY, none, score_threshold=0.5)) == GREY).all()
    assert len(pixels_of(draw_detections(GREY, none), class_colour(1))[0])
    # Ground truth has no score: no threshold leaves it out.
    truth = {"boxes": ONE["boxes"], "labels": [1]}
    assert len(pixels_of(draw_detections(GREY, truth, score_threshold=0.5), class_colour(1))[0])


@pytest.mark.parametrize("marked_by", ["classes", "confidence", "num_detections"])
def test_a_row_of_predict_is_drawn_without_its_padding(marked_by):
    padding = [[40, 60, 140, 160], [200, 60, 300, 160], [-1, -1, -1, -1]]
    row = {
        "boxes": np.float32(padding),
        "classes": np.int32([1, 1, 1]),
        "confidence": np.float32([0.87, 0.8, 0.7]),
    }
    if marked_by == "num_detections":
        row["num_detections"] = np.int32(1)
    else:
        row[marked_by][1:] = -1
    expected = np.asarray(draw_detections(GREY, ONE))
    assert (np.asarray(draw_detections(GREY, row)) == expected).all()
    gallery = np.asarray(draw_gallery([GREY], [ONE], cell_size=320))
    assert (np.asarray(draw_gallery([GREY], [row], cell_size=320)) == gallery).all()


def test_lines_are_wider_on_larger_images():
    def line_width(size):
        image = np.full((size, size, 3), 100, "uint8")
        box = [[0.25 * size, 0.25 * size, 0.75 * size, 0.75 * size]]
        drawn = np.asarray(draw_detections(image, {"boxes": box, "classes": [0]}))
        row = drawn[size * 5 // 8, : size // 2]
        return int((row == class_colour(0)).all(axis=-1).sum())

    assert line_width(100) == 1
    assert line_width(1200) == 5


@pytest.mark.parametrize(
    "box",
    [[-50, -50, 500, 500], [300, 0, 330, 8], [10, 10, 10, 10], [50, 50, 20, 20], [0, 239, 9, 240]],
)
def test_boxes_at_and_over_the_border_are_drawn(box):
    picture = draw_detections(GREY, {"boxes": [box], "classes": [0], "confidence": [1.0]})
    assert len(pixels_of(picture, class_colour(0))[0])  # at least the tag is visible


def test_ground_truth_is_drawn_without_confidence_and_ignored_objects_in_grey():
    truth = {"boxes": ONE["boxes"] * 2, "labels": [0, 0], "ignored": [0, 1]}
    truth["boxes"] = [[40, 60, 140, 160], [200, 60, 300, 160]]
    drawn = np.asarray(draw_detections(GREY, truth))
    assert tuple(drawn[110, 40]) == class_colour(0)
    assert tuple(drawn[110, 200]) == (160, 160, 160)


def test_paths_and_pil_images_and_floats_are_accepted(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    expected = np.asarray(draw_detections(GREY, ONE))
    for image in (tmp_path / "a.png", Image.fromarray(GREY), GREY.astype("float32")):
        assert (np.asarray(draw_detections(image, ONE)) == expected).all()


def test_gallery_shows_truth_left_of_detections():
    truth = {"boxes": ONE["boxes"], "classes": [0]}
    gallery = draw_gallery([GREY], [ONE], [truth], ["cat", "dog"], cell_size=320)
    rows, columns = pixels_of(gallery, class_colour(0))
    _, detected_columns = pixels_of(gallery, class_colour(1))
    assert len(rows) and columns.max() < detected_columns.min()
    assert (columns.max() - columns.min(), rows.max()) == (99, rows.max())
    # Twice as large cells show boxes twice as large.
    large = draw_gallery([GREY], [ONE], [truth], ["cat", "dog"], cell_size=640)
    columns = pixels_of(large, class_colour(0))[1]
    assert columns.max() - columns.min() == pytest.approx(199, abs=1)


def test_gallery_takes_images_of_different_sizes():
    images = [GREY, GREY[:100], GREY[:, :50]]
    gallery = draw_gallery(images, [ONE] * 3, columns=3, cell_size=100)
    assert gallery.width == 3 * 100 + 4 * 12


def test_gallery_of_lists_of_different_lengths_is_an_error():
    with pytest.raises(ValueError, match="same length"):
        draw_gallery([GREY], [ONE, ONE])
    with pytest.raises(ValueError, match="same length"):
        draw_gallery([], [])


def test_missing_keys_are_an_error():
    with pytest.raises(ValueError, match="classes"):
        draw_detections(GREY, {"boxes": ONE["boxes"]})
    with pytest.raises(ValueError, match="differ in length"):
        draw_detections(GREY, {"boxes": ONE["boxes"], "classes": [0, 1]})


def test_works_without_matplotlib():
    # Keras itself imports matplotlib where it finds it: here nobody finds it.
    code = (
        "import sys; sys.modules['matplotlib'] = None; import numpy as np;"
        "from keras_gflv2.visualization import draw_detections as draw;"
        "draw(np.zeros((32, 32, 3), 'uint8'), {'boxes': [[2, 2, 9, 9]], 'classes': [0]})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Detector:
    """Finds nothing, and remembers where."""

    class_names = ("a",)

    def __init__(self, bounding_box_format="xyxy"):
        self.bounding_box_format = bounding_box_format

    def detect(self, images):
        self.shapes = [image.shape for image in images]
        none = {"boxes": np.zeros((0, 4)), "classes": np.zeros(0), "confidence": np.zeros(0)}
        return [none for _ in images]


def test_validation_pictures_leave_out_the_padding():
    """Truth is left of detections; a batch's padding is not part of a picture."""
    detector = Detector()
    batch = {
        "images": np.zeros((3, 64, 96, 3), "float32"),
        "image_sizes": np.array([[40, 96], [64, 50], [64, 96]]),
        "bounding_boxes": {"boxes": np.zeros((3, 1, 4)), "classes": np.full((3, 1), -1)},
    }
    draw_validation(detector, [batch], count=2)
    assert detector.shapes == [(40, 96, 3), (64, 50, 3)]


@pytest.mark.parametrize(
    ("box_format", "box"),
    [
        ("xyxy", [10, 20, 50, 40]),
        ("center_xywh", [30, 30, 40, 20]),
        ("rel_yxyx", [20 / 64, 10 / 96, 40 / 64, 50 / 96]),
    ],
)
@pytest.mark.parametrize("said_by", ["model", "dataset"])
def test_validation_pictures_have_the_truth_where_it_is_in_every_format(box_format, box, said_by):
    class Batches(list):
        pass

    truth = {"boxes": np.float32([[box]]), "labels": np.zeros((1, 1), "int32")}
    batch = {"images": np.zeros((1, 64, 96, 3), "float32"), "bounding_boxes": truth}
    batch["image_sizes"] = np.array([[48, 64]])  # relative formats are relative to the batch
    dataset = Batches([batch])
    detector = Detector(box_format if said_by == "model" else "xywh")
    if said_by == "dataset":
        dataset.bounding_box_format = box_format
    as_xyxy = {**truth, "boxes": np.float32([[[10, 20, 50, 40]]])}
    expected = Batches([{**batch, "bounding_boxes": as_xyxy}])
    drawn = np.asarray(draw_validation(detector, dataset))
    assert (drawn == np.asarray(draw_validation(Detector(), expected))).all()
    assert len(pixels_of(drawn, class_colour(0))[0])


def test_validation_pictures_come_from_as_many_batches_as_needed():
    """Also where batches have other sizes, and do not say those of the images."""
    none = {"boxes": np.zeros((1, 0, 4)), "classes": np.zeros((1, 0))}
    batches = [(np.zeros((1, *size, 3)), none) for size in ((32, 64), (64, 32), (1, 300))]
    detector = Detector()
    draw_validation(detector, batches, count=3)
    assert detector.shapes == [(32, 64, 3), (64, 32, 3), (1, 300, 3)]
