"""Pascal VOC folders: values, order, and what is said about bad ones."""

import warnings

import numpy as np
import pytest
from PIL import Image

from keras_gflv2.data import load_voc
from keras_gflv2.images import MEAN_COLOUR, read_image, resize_image


def test_batch_of_an_image_that_needs_no_resizing(voc_tree, noise):
    """Pixels are exact, padding has the mean colour, boxes are as written."""
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40)), ("cat", (5, 5, 9.5, 9), 1)])})
    ds = load_voc(folder, "train", image_size=(40, 50), batch_size=1)
    (batch,) = list(ds)
    assert batch["images"].shape == (1, 64, 64, 3)
    np.testing.assert_array_equal(batch["images"][0, :40, :50], noise(40, 50))
    padding = batch["images"].numpy()[0, 40:]
    np.testing.assert_array_equal(padding, np.broadcast_to(np.float32(MEAN_COLOUR), padding.shape))
    boxes = batch["bounding_boxes"]
    np.testing.assert_allclose(boxes["boxes"][0, :2], [[1, 2, 30, 40], [5, 5, 9.5, 9]])
    np.testing.assert_array_equal(boxes["classes"][0], [1, 0] + [-1] * 6)
    np.testing.assert_array_equal(boxes["ignored"][0], [0, 1] + [0] * 6)
    np.testing.assert_allclose(boxes["areas"][0, :2], [29 * 38, 18])
    np.testing.assert_array_equal(batch["image_sizes"], [[40, 50]])
    np.testing.assert_array_equal(batch["original_sizes"], [[40, 50]])
    np.testing.assert_array_equal(batch["image_ids"], [0])
    assert ds.class_names == ["cat", "dog"]
    assert ds.image_ids == ["a"] and ds.num_images == 1 and ds.category_ids is None
    assert ds.bounding_box_format == "xyxy"


def test_boxes_scale_with_the_image(voc_tree):
    folder = voc_tree({"a": ((40, 80), [("dog", (8, 4, 40, 20))])})
    (batch,) = list(load_voc(folder, "train", image_size=(20, 100), batch_size=1))
    np.testing.assert_array_equal(batch["image_sizes"], [[20, 40]])
    np.testing.assert_allclose(batch["bounding_boxes"]["boxes"][0, 0], [4, 2, 20, 10])
    # Areas stay those of the original image: COCO's small, medium and large refer to it.
    assert batch["bounding_boxes"]["areas"][0, 0] == 32 * 16


@pytest.mark.parametrize(
    "box_format, expected",
    [
        ("xyxy", [8, 4, 40, 20]),
        ("yxyx", [4, 8, 20, 40]),
        ("xywh", [8, 4, 32, 16]),
        ("center_xywh", [24, 12, 32, 16]),
        ("rel_xyxy", [8 / 96, 4 / 64, 40 / 96, 20 / 64]),  # of the padded canvas, 64 x 96
        ("rel_yxyx", [4 / 64, 8 / 96, 20 / 64, 40 / 96]),
        ("rel_xywh", [8 / 96, 4 / 64, 32 / 96, 16 / 64]),
    ],
)
def test_bounding_box_formats(voc_tree, box_format, expected):
    folder = voc_tree({"a": ((40, 80), [("dog", (8, 4, 40, 20))])})
    ds = load_voc(folder, "train", image_size=(40, 80), bounding_box_format=box_format)
    (batch,) = list(ds)
    assert ds.bounding_box_format == box_format
    np.testing.assert_allclose(batch["bounding_boxes"]["boxes"][0, 0], expected, rtol=1e-6)


def test_unknown_format_is_refused(voc_tree):
    folder = voc_tree({"a": ((40, 80), [("dog", (8, 4, 40, 20))])})
    with pytest.raises(ValueError, match=r"bounding_box_format.*'xxyy'"):
        load_voc(folder, "train", bounding_box_format="xxyy")


def test_evaluation_keeps_order_and_every_image_once(voc_tree):
    images = {f"i{i}": ((40 + i, 80 - 9 * i), [("dog", (1, 1, 9, 9))]) for i in range(5)}
    ds = load_voc(voc_tree(images), "train", image_size=(40, 80), batch_size=2)
    for _ in range(2):
        ids = [batch["image_ids"].numpy().tolist() for batch in ds]
        assert ids == [[0, 1], [2, 3], [4]]
    assert len(ds) == 3


def test_class_names_come_from_all_splits(voc_tree):
    voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])}, split="train")
    folder = voc_tree({"b": ((40, 50), [("cat", (1, 2, 30, 40))])}, split="val")
    assert load_voc(folder, "train").class_names == ["cat", "dog"]
    assert load_voc(folder, "val").class_names == ["cat", "dog"]
    ds = load_voc(folder, "val", class_names=["dog", "cat"])
    assert next(iter(ds))["bounding_boxes"]["classes"][0, 0] == 1


def test_bad_boxes_are_repaired_and_counted(voc_tree):
    good = ("dog", (1, 1, 9, 9))
    folder = voc_tree(
        {
            "fine": ((40, 50), [good]),
            "empty": ((40, 50), [good, ("dog", (5, 5, 5, 20)), ("dog", (9, 9, 5, 20))]),
            "nan": ((40, 50), [("dog", ("nan", 5, 9, 20)), good]),
            "outside": ((40, 50), [("dog", (60, 5, 70, 20)), good]),
            "clipped": ((40, 50), [("dog", (-5, 5, 70, 45))]),
        }
    )
    with pytest.warns(UserWarning) as caught:
        ds = load_voc(folder, "train", batch_size=5, image_size=(40, 50))
    text = " ".join(str(warning.message) for warning in caught)
    assert "dropped 2 boxes with x2 <= x1" in text and "(empty)" in text
    expected = {"empty_boxes": 2, "non_finite_boxes": 1, "outside_boxes": 1, "clipped_boxes": 1}
    assert {key: ds.report[key] for key in expected} == expected
    assert ds.report["files"]["empty_boxes"] == ["empty"]
    assert ds.report["images"] == 5 and ds.report["boxes"] == 5
    (batch,) = list(ds)
    np.testing.assert_allclose(batch["bounding_boxes"]["boxes"][:4, 0], [[1, 1, 9, 9]] * 4)
    np.testing.assert_allclose(batch["bounding_boxes"]["boxes"][4, 0], [0, 5, 50, 40])


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 20), ("nan", 5, 9, 20), (60, 5, 70, 20), (-5, 5, 70, 45)]
)
def test_bad_boxes_can_be_errors(voc_tree, box):
    folder = voc_tree({"guilty": ((40, 50), [("dog", box)])})
    with pytest.raises(ValueError, match="guilty"):
        load_voc(folder, "train", invalid_boxes="error")


def test_good_boxes_give_no_warning(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (0, 0, 50, 40))]), "b": ((40, 50), [])})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ds = load_voc(folder, "train", invalid_boxes="error")
    assert ds.report["images_without_boxes"] == 1


def test_stated_size_that_is_wrong(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])}, stated_sizes={"a": (80, 100)})
    with pytest.warns(UserWarning, match="1 annotations state another"):
        ds = load_voc(folder, "train", image_size=(40, 50))
    assert ds.report["size_mismatches"] == 1
    np.testing.assert_array_equal(next(iter(ds))["original_sizes"], [[40, 50]])


@pytest.mark.parametrize("stated, turned", [((20, 40), False), ((40, 20), True)])
def test_exif_follows_the_annotation(voc_tree, noise, stated, turned):
    """A turned picture is turned exactly if its annotation was made on the turned one."""
    folder = voc_tree({"a": ((20, 40), [("dog", (1, 2, 9, 9))])}, stated_sizes={"a": stated})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 40)).save(folder / "JPEGImages/a.png", exif=exif)
    ds = load_voc(folder, "train", image_size=(20, 40))
    batch = next(iter(ds))
    assert ds.report["exif_upright"] == int(turned) and ds.report["exif_stored"] == int(not turned)
    expected = np.rot90(noise(20, 40), -1) if turned else noise(20, 40)
    height, width = batch["image_sizes"][0].numpy()
    np.testing.assert_array_equal(batch["images"][0, :height, :width], expected)
    assert ds.report["size_mismatches"] == 0


def test_images_of_a_list_may_have_spaces_in_their_names(voc_tree):
    """The second column of a list of one class is told from a name by what is in the folder."""
    images = {
        name: ((40, 50), [("dog", (1, 2, 30, 40))])
        for name in ("photo", "photo 2", "a photo", "solo")
    }
    folder = voc_tree(images)
    path = folder / "ImageSets/Main/train.txt"
    for lines, expected in [
        (["photo 2", "a photo"], ["photo 2", "a photo"]),
        (["photo -1", "photo 2  1", "solo  0"], ["photo", "photo 2", "solo"]),
        (["photo", "photo 2", "solo"], ["photo", "photo 2", "solo"]),
        (['"photo 2"  1', "solo 0"], ["photo 2", "solo"]),
    ]:
        path.write_text("\n".join(lines) + "\n")
        ds = load_voc(folder, "train")
        assert ds.image_ids == expected and not ds.report["repaired_names"]
    for name in ("photo 1", "solo 1"):  # As names and as columns, these lines make sense.
        (folder / f"Annotations/{name}.xml").write_text("<annotation/>")
    path.write_text("photo 1\nsolo 1\n")
    with pytest.raises(ValueError, match=r"train\.txt: the line 'photo 1' may mean"):
        load_voc(folder, "train")


@pytest.mark.parametrize(
    "line", ["a.jpg", "a.JPG", "a.xml", "JPEGImages/a.png", "C:\\VOC\\a.jpg", "/data/a.png"]
)
def test_lists_of_files_in_the_place_of_ids(voc_tree, line):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    (folder / "ImageSets/Main/train.txt").write_bytes(f"\ufeff{line}\r\n".encode())
    with pytest.warns(UserWarning, match="found 1 files under other names"):
        ds = load_voc(folder, "train")
    assert ds.image_ids == ["a"] and ds.report["files"]["repaired_names"] == [line]


def test_no_list_leads_out_of_the_folder(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    (folder / "secret.xml").write_text("<annotation/>")
    (folder / "ImageSets/Main/train.txt").write_text("../secret\n")
    with pytest.raises(FileNotFoundError, match=r"secret\.xml.*train\.txt"):
        load_voc(folder, "train")


@pytest.mark.parametrize("suffix", [".JPG", ".JPeG", ".PNG"])
def test_suffixes_in_another_case(voc_tree, suffix):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    (folder / "JPEGImages/a.png").rename(folder / f"JPEGImages/a{suffix}")
    assert load_voc(folder, "train").num_images == 1


def test_difficult(voc_tree):
    values = {"1": 1, "1.0": 1, " true ": 1, "True": 1, "0": 0, "False": 0, "": 0}
    objects = [("dog", (i, 2, 30, 40), text) for i, text in enumerate(values)]
    batch = next(iter(load_voc(voc_tree({"a": ((40, 50), objects)}), "train")))
    ignored = batch["bounding_boxes"]["ignored"][0, : len(values)]
    np.testing.assert_array_equal(ignored, list(values.values()))


def test_difficult_that_is_neither(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40), "maybe")])})
    with pytest.raises(ValueError, match=r"a\.xml: object 1 \(dog\): <difficult>.*'maybe'"):
        load_voc(folder, "train")


def test_errors_name_the_cause(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    with pytest.raises(FileNotFoundError, match=r"val\.txt.*Known splits: \['train'\]"):
        load_voc(folder, "val")
    with pytest.raises(ValueError, match=r"a\.xml.*unknown class 'dog'.*\['cat'\]"):
        load_voc(folder, "train", class_names=["cat"])
    xml = folder / "Annotations/a.xml"
    text = xml.read_text()
    xml.write_text(text.replace("<xmin>1</xmin>", ""))
    with pytest.raises(ValueError, match=r"a\.xml.*no <xmin>"):
        load_voc(folder, "train")
    xml.write_text(text.replace("<xmin>1</xmin>", "<xmin>one</xmin>"))
    with pytest.raises(ValueError, match=r"a\.xml.*<xmin> must be a number"):
        load_voc(folder, "train")
    xml.write_text(text[:-5])
    with pytest.raises(ValueError, match=r"a\.xml is not a valid XML"):
        load_voc(folder, "train")
    xml.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml does not exist"):
        load_voc(folder, "train", class_names=["dog"])
    xml.write_text(text)
    (folder / "JPEGImages/a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.jpg does not exist.*a\.xml"):
        load_voc(folder, "train")
    (folder / "ImageSets/Main/train.txt").write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        load_voc(folder, "train")


def test_file_that_is_no_image_is_found_at_load_time(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    (folder / "JPEGImages/a.png").write_text("text")
    with pytest.raises(ValueError, match=r"a\.png is not an image"):
        load_voc(folder, "train")


def test_file_that_is_cut_short_is_named_while_decoding(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    path = folder / "JPEGImages/a.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(Exception, match=r"a\.png cannot be decoded"):
        list(load_voc(folder, "train"))


def test_repeated_ids_are_counted(voc_tree):
    folder = voc_tree({"a": ((40, 50), [("dog", (1, 2, 30, 40))])})
    (folder / "ImageSets/Main/train.txt").write_text("a\na\n")
    with pytest.warns(UserWarning, match="repeated"):
        ds = load_voc(folder, "train")
    assert ds.num_images == 1 and ds.report["repeated_images"] == 1


def test_bccd(bccd):
    """The counts of the real dataset, and pixels that detect's own resizing gives too."""
    with pytest.warns(UserWarning, match="dropped 1 boxes with x2 <= x1"):
        ds = load_voc(bccd, "val", image_size=(240, 320), batch_size=4)
    assert ds.class_names == ["Platelets", "RBC", "WBC"]
    assert ds.num_images == 87 and len(ds) == 22
    assert ds.report["empty_boxes"] == 1
    assert ds.element_spec["images"].shape.as_list() == [None, 256, 320, 3]
    batch = next(iter(ds))
    image = read_image(bccd / "JPEGImages" / f"{ds.image_ids[2]}.jpg")
    np.testing.assert_array_equal(batch["images"][2, :240], resize_image(image, (240, 320)))
