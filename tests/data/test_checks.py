"""What would spoil a training is planted in a small dataset, and found; without it, nothing is."""

import copy
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from keras_gflv2 import data
from keras_gflv2.data.checks.class_order import find_other_shares, find_transposed
from keras_gflv2.data.source import Source

NAMES = ["bus", "sign"]
COLORS = {"bus": (200, 60, 40), "sign": (40, 80, 210)}
WIDTH, HEIGHT = 200, 140
COUNTS = {"train": 26, "val": 22}


class Pets:
    """A COCO dataset of two splits; wide red and tall blue boxes before a random landscape."""

    def __init__(self, folder):
        self.folder = folder
        self.content = {split: self._make(split, count) for split, count in COUNTS.items()}

    def copy(self, folder):
        other = copy.deepcopy(self)
        other.folder = shutil.copytree(self.folder, folder)
        return other

    def _make(self, split, count):
        random = np.random.default_rng(len(split))
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(NAMES)]
        content = {"images": [], "annotations": [], "categories": categories}
        (self.folder / split).mkdir(parents=True)
        for index in range(count):
            coarse = random.integers(60, 200, (5, 7, 3), dtype=np.uint8)
            picture = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            draw = ImageDraw.Draw(picture)
            boxes = []
            for number in range(3):
                name = NAMES[(index + number) % 2]
                size = random.integers((40, 20), (60, 30))
                width, height = size if name == "bus" else size[::-1]
                x = int(random.integers(64 * number + 1, 64 * number + 65 - min(width, 60)))
                y = int(random.integers(1, HEIGHT - height))
                boxes.append((name, (x, y, int(width), int(height))))
                draw.rectangle((x, y, x + width - 1, y + height - 1), COLORS[name])
            self.add(content, f"{split}_{index:03d}.png", boxes, picture)
        return content

    def add(self, split, name, boxes, picture=None):
        """Adds an image with its boxes, x y width height, to a split."""
        content = self.content[split] if isinstance(split, str) else split
        image_id = len(content["images"])
        content["images"].append({"id": image_id, "file_name": name})
        for label, box in boxes:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]),
                    "image_id": image_id,
                    "category_id": NAMES.index(label) + 1,
                    "bbox": list(box),
                }
            )
        if picture is not None:
            picture.save(self.path(name))

    def path(self, name):
        return self.folder / name.split("_")[0] / name

    def picture(self, name):
        return Image.open(self.path(name)).convert("RGB")

    def of(self, split):
        return self.content[split]["annotations"]

    def check(self, **options):
        sources = {}
        for split, content in self.content.items():
            file = self.folder / f"{split}.json"
            file.write_text(json.dumps(content))
            sources[split] = Source("coco", str(file), image_dir=str(self.folder / split))
        return data.check(sources, **{"image_size": (HEIGHT, WIDTH)} | options)


@pytest.fixture(scope="module")
def clean_pets(tmp_path_factory):
    return Pets(tmp_path_factory.mktemp("clean") / "pets")


@pytest.fixture
def pets(clean_pets, tmp_path):
    return clean_pets.copy(tmp_path / "pets")


def test_a_clean_dataset_has_no_findings(pets):
    report = pets.check()
    assert report.ok and [f.code for f in report.findings if f.severity != "note"] == []
    assert report.counts["train"]["classes"] == {"bus": 39, "sign": 39}
    assert report.counts["val"]["images"] == 22
    assert sum(report.sizes["levels"].values()) == 3 * sum(COUNTS.values())
    assert json.loads(json.dumps(report.as_dict()))["ok"]
    sheet = report.contact_sheet()
    assert sheet.mode == "RGB" and np.asarray(sheet).std() > 10


def found(report, code, *texts, severity="error"):
    """The one finding of a code, which must say certain things."""
    (finding,) = report.of(code)
    assert finding.severity == severity and report.ok == (severity != "error")
    for text in texts:
        assert text in str(finding)
    return finding


def reencoded(picture):
    return picture.resize((WIDTH * 3 // 4, HEIGHT * 3 // 4), Image.Resampling.BILINEAR)


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda picture: picture, ""),
        (reencoded, ""),
        (lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "mirrored"),
        (lambda picture: picture.transpose(Image.Transpose.ROTATE_90), "turned by 90 degrees"),
    ],
)
def test_a_leaked_image(pets, change, said):
    picture = change(pets.picture("train_007.png"))
    picture.save(pets.path("val_leak.jpg"), quality=70)
    pets.add("val", "val_leak.jpg", [])
    finding = found(pets.check(), "shared_images", "val/val_leak.jpg is train/train_007.png", said)
    assert len(finding.items) == 1


def test_a_mirrored_duplicate_in_one_split(pets):
    picture = pets.picture("train_007.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pets.add("train", "train_flip.png", [], picture)
    finding = found(pets.check(), "repeated_images", "train_007.png mirrored", severity="warning")
    assert "different boxes: 1" in finding.advice


def test_two_frames_of_one_scene(pets):
    picture = pets.picture("train_007.png")
    ImageDraw.Draw(picture).rectangle((150, 100, 163, 120), (190, 190, 60))
    pets.add("val", "val_frame.png", [], picture)
    found(pets.check(), "similar_images", "val/val_frame.png", severity="warning")


def test_a_file_of_both_splits(pets):
    pets.folder.joinpath("val").rename(pets.folder / "other")
    pets.folder.joinpath("val").symlink_to(pets.folder / "train")
    sources = [
        Source("shapes", "", split="train", num_images=4),
        Source("shapes", "", split="train", num_images=2),
    ]
    report = data.check(dict(zip(("train", "val"), sources)))
    assert not report.ok and len(report.of("shared_files")[0].items) == 2


def test_a_class_with_two_boxes(pets):
    pets.content["train"]["categories"].append({"id": 3, "name": "tram"})
    pets.content["val"]["categories"].append({"id": 3, "name": "tram"})
    for annotation in pets.of("train")[:2]:
        annotation["category_id"] = 3
    report = pets.check(pixels=False)
    found(report, "rare_classes", "tram (2)", severity="warning")
    found(report, "classes_without_validation", "tram", severity="warning")
    pets.of("val")[0]["category_id"] = 3
    for annotation in pets.of("train")[:2]:
        annotation["category_id"] = 1
    found(pets.check(pixels=False), "classes_without_training", "tram (1)")


def test_small_boxes_are_those_at_the_training_size(pets):
    pets.of("train")[5]["bbox"] = [20, 20, 6, 6]
    assert not pets.check(image_size=(280, 400), pixels=False).of("small_boxes")
    report = pets.check(image_size=(70, 100), pixels=False)
    found(report, "small_boxes", "train_001.png (sign, 3 x 3)", severity="warning")


def test_boxes_beyond_what_distances_reach(pets):
    pets.of("train")[0]["bbox"] = [1, 1, 190, 20]
    options = {"image_size": (700, 1000), "strides": (8, 16, 32), "pixels": False}
    assert not pets.check(reg_max=16, **options).of("boxes_beyond_reg_max")
    found(pets.check(reg_max=16, **options), "boxes_near_reg_max", "950 x", severity="warning")
    report = pets.check(reg_max=14, **options)
    found(report, "boxes_beyond_reg_max", "train_000.png (bus, 950 x", severity="warning")


def test_files_that_are_missing_or_broken(pets):
    pets.path("train_003.png").unlink()
    pets.path("train_004.png").write_bytes(b"no picture")
    content = pets.path("train_005.png").read_bytes()
    pets.path("train_005.png").write_bytes(content[: len(content) // 2])
    report = pets.check()
    found(report, "missing_files", "train_003.png does not exist")
    found(report, "unreadable", "train_004.png")
    found(report, "broken_images", "train_005.png")
    assert report.counts["train"]["images"] == COUNTS["train"] - 2
    assert report.contact_sheet()


def test_annotations_that_cannot_be_read(pets):
    pets.of("train")[5]["bbox"] = [1, 2, 3]
    pets.of("train")[6]["category_id"] = 9
    finding = found(pets.check(pixels=False), "unreadable", "unknown category id 9")
    assert len(finding.items) == 2


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
    import data_forms

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
    import data_forms

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


# === What is checked ===


def test_forms_of_data(pets, tmp_path):
    pets.check(pixels=False)
    (pets.folder / "train.json").rename(pets.folder / "train" / "_annotations.coco.json")
    (pets.folder / "val.json").rename(pets.folder / "val" / "_annotations.coco.json")
    by_folder = data.check(pets.folder, pixels=False)
    assert by_folder.counts["val"]["images"] == COUNTS["val"]
    ds = data.load_shapes("val", num_images=6)
    by_dataset = data.check(ds, data.load_shapes("other", num_images=3))
    assert {split: count["images"] for split, count in by_dataset.counts.items()} == {
        "train": 6,
        "val": 3,
    }
    divided = data.check(ds, validation_fraction=0.5, pixels=False)
    assert sum(count["images"] for count in divided.counts.values()) == 6
    with pytest.raises(ValueError, match="Received: int"):
        data.check(3)


def test_bccd_has_nothing_that_would_spoil_a_training(bccd):
    """And two frames of one scene, one of them in each split."""
    parts = {split: Source("voc", str(bccd), split=split).read() for split in ("train", "val")}
    for part in parts.values():
        part.records = part.records[:40]
    report = data.check(parts, image_size=(240, 320))
    assert report.ok and not report.of("shared_images")
    assert report.of("similar_images")[0].items == [
        "val/BloodImage_00037 is train/BloodImage_00038"
    ]
