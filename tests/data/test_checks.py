"""What would spoil a training is planted in a small dataset, and found; without it, nothing is."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from planted_data import COUNTS, HEIGHT, WIDTH, found

from keras_gflv2 import data
from keras_gflv2.data.source import Source


def test_a_clean_dataset_has_no_findings(pets):
    report = pets.check()
    assert report.ok and [f.code for f in report.findings if f.severity != "note"] == []
    assert report.counts["train"]["classes"] == {"bus": 39, "sign": 39}
    assert report.counts["val"]["images"] == 22
    assert sum(report.sizes["levels"].values()) == 3 * sum(COUNTS.values())
    assert json.loads(json.dumps(report.as_dict()))["ok"]
    sheet = report.contact_sheet()
    assert sheet.mode == "RGB" and np.asarray(sheet).std() > 10


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
