"""Labels in another order and boxes that do not fit their pictures are planted, and found."""

import data_forms
import numpy as np
import pytest
from planted_data import COUNTS, HEIGHT, NAMES, WIDTH, found

from keras_gflv2 import data
from keras_gflv2.data.checks.class_order import find_other_shares, find_transposed
from keras_gflv2.data.source import Source

# === Labels in another order ===


def test_numbers_that_name_other_classes(pets):
    for category, name in zip(pets.content["val"]["categories"], reversed(NAMES)):
        category["name"] = name
    report = pets.check()
    assert not report.ok
    assert any("bus is 1 in train and 2 in val" in str(f) for f in report.of("class_order"))


def test_numbers_that_were_changed_with_their_names_are_no_error(pets):
    pets.content["val"]["categories"].reverse()
    for category, number in zip(pets.content["val"]["categories"], (1, 2)):
        category["id"] = number
    for annotation in pets.of("val"):
        annotation["category_id"] = 3 - annotation["category_id"]
    found(pets.check(), "class_order", "numbered anew", severity="warning")


@pytest.mark.parametrize("pixels", [True, False])
def test_labels_that_are_exchanged_in_one_split(pets, pixels):
    for annotation in pets.of("val"):
        annotation["category_id"] = 3 - annotation["category_id"]
    found(pets.check(pixels=pixels), "class_order", "looks like sign of train", "another order")


def test_lists_of_classes_that_differ(pets):
    pets.content["train"]["categories"].append({"id": 3, "name": "tram"})
    found(pets.check(pixels=False), "class_lists", "tram (only in train)")
    pets.content["val"]["categories"] = pets.content["train"]["categories"]
    pets.content["train"] = {
        **pets.content["train"],
        "categories": pets.content["train"]["categories"][:2],
    }
    found(pets.check(pixels=False), "class_lists", "tram (only in val)", severity="warning")


def test_a_table_of_validation_images_need_not_have_all_classes(tmp_path):
    rows = [("a.jpg", 5, 10, 30, 35, "cat"), ("b.jpg", 8, 16, 24, 48, "dog")]
    for stem in ("a", "b"):
        data_forms.write_image(tmp_path / f"{stem}.jpg", stem)
    header = "image,x1,y1,x2,y2,class\n"
    for split, count in (("train", 2), ("val", 1)):
        text = header + "\n".join(",".join(map(str, row)) for row in rows[:count])
        data_forms.write_text(tmp_path / f"{split}.csv", text)
    report = data.check(tmp_path, pixels=False)
    assert not report.of("class_lists") and report.of("classes_without_validation")
    assert not report.ok and report.of("shared_files")


def test_what_was_read_together_is_told_once(pets):
    pets.path("train_003.png").unlink()
    pets.of("train")[0]["bbox"][2] = -4
    pets.check(pixels=False)
    source = Source("coco", str(pets.folder / "train.json"), image_dir=str(pets.folder / "train"))
    report = data.check(source, validation_fraction=0.5, pixels=False)
    assert len(report.of("missing_files")) == len(report.of("empty_boxes")) == 1
    assert sum(count["images"] for count in report.counts.values()) == COUNTS["train"] - 1
    assert report.of("empty_boxes")[0].images and report.contact_sheet()


def test_lists_of_names_that_contradict_each_other(tmp_path):
    folder = data_forms.label_studio_yolo(tmp_path)
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [dog, cat]\n")
    report = data.check(folder, pixels=False)
    assert any("classes.txt" in str(finding) for finding in report.of("class_order"))


def test_names_of_one_class(pets):
    for content in pets.content.values():
        content["categories"].append({"id": 3, "name": "Bus "})
    pets.of("train")[0]["category_id"] = pets.of("val")[0]["category_id"] = 3
    found(pets.check(pixels=False), "similar_names", "'bus' and 'Bus '", severity="warning")


# === Boxes that do not fit their pictures ===


def transposed(x, y, width, height):
    return y, x, height, width


def mirrored(x, y, width, height):
    return WIDTH - x - width, y, width, height


def upside_down(x, y, width, height):
    return x, HEIGHT - y - height, width, height


def centers(x, y, width, height):
    return x + width / 2, y + height / 2, width, height


@pytest.mark.parametrize(
    "change, said",
    [
        (mirrored, "mirrored left to right"),
        (upside_down, "mirrored top to bottom"),
        (centers, "corner taken for their center"),
    ],
)
def test_boxes_that_are_misread(pets, change, said):
    for annotation in pets.of("train"):
        annotation["bbox"] = change(*annotation["bbox"])
    report = pets.check()
    assert not report.ok and any(said in str(f) for f in report.of("misread_boxes"))


def test_boxes_with_x_and_y_exchanged(pets):
    for annotation in pets.of("train"):
        annotation["bbox"] = transposed(*annotation["bbox"])
    report = pets.check(pixels=False)
    found(report, "transposed_boxes", "fit with x and y exchanged")
    report = pets.check()
    assert any("x and y exchanged" in str(f) for f in report.of("misread_boxes"))


def test_one_split_with_x_and_y_exchanged():
    """In square images, which such boxes do not leave."""
    random = np.random.default_rng(0)
    features = {}
    for split in ("train", "val"):
        rows = np.stack([random.normal(mean, 0.1, 30) for mean in (-3, 0.7, 0.5, 0.6)], -1)
        features[split] = {"bus": rows}
    assert not list(find_transposed(features))
    features["val"]["bus"] = features["val"]["bus"] * [1, -1, 1, 1]
    (finding,) = find_transposed(features)
    assert finding.severity == "error" and "val" in finding.message


def test_boxes_of_other_pictures(pets):
    for annotation in pets.of("train"):
        annotation["image_id"] = (annotation["image_id"] + 1) % COUNTS["train"]
    found(pets.check(), "labels_of_other_pictures", "those of train_001.png fit train_000.png")


def test_boxes_that_repeat(pets):
    annotations = pets.of("train")
    x, y, width, height = annotations[0]["bbox"]
    annotations.append({**annotations[0], "id": 1000})
    annotations.append({**annotations[1], "id": 1001, "category_id": 1})
    annotations.append({**annotations[3], "id": 1002, "bbox": [5, 5, 40, 40]})
    annotations.append({**annotations[3], "id": 1003, "bbox": [6, 5, 40, 40]})
    annotations[0]["bbox"] = [x - 0.5, y, width, height]
    report = pets.check(pixels=False)
    finding = found(report, "repeated_boxes", "2 boxes repeat", severity="warning")
    assert finding.items == ["train_000.png (bus)", "train_001.png (sign)"]
    found(report, "conflicting_boxes", "train_000.png (sign, bus)", severity="warning")


def test_repaired_boxes_spoil_when_they_are_many(pets):
    pets.of("train")[0]["bbox"][2] = -4
    found(pets.check(pixels=False), "empty_boxes", "train_000.png", severity="warning")
    for annotation in pets.of("train")[:30]:
        annotation["bbox"][2] = -4
    found(pets.check(pixels=False), "empty_boxes", "dropped 30 boxes")


def test_boxes_of_few_pixels_in_the_image_itself(pets):
    pets.of("train")[5]["bbox"] = [20, 20, 3, 3]
    report = pets.check(image_size=(800, 1333), pixels=False)
    found(report, "tiny_boxes", "1 of 144 boxes", "train_001.png", severity="warning")


def test_classes_that_are_much_more_frequent_in_one_split():
    counts = {"train": {"bus": 900, "sign": 100}, "val": {"bus": 200, "sign": 100}}
    counts = {split: {"classes": classes} for split, classes in counts.items()}
    (finding,) = find_other_shares(counts)
    assert finding.items == ["sign (10% and 33%)"]
    counts["val"]["classes"] = {"bus": 2, "sign": 1}
    assert not list(find_other_shares(counts))


def test_images_that_no_annotation_names(pets):
    pets.picture("train_000.png").save(pets.path("train_extra.png"))
    found(pets.check(pixels=False), "unlisted_images", "train_extra.png", severity="note")


def test_training_data_without_an_object(pets):
    pets.content["train"]["annotations"] = []
    found(pets.check(pixels=False), "no_objects")
