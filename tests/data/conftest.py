"""Tiny datasets written to a temporary folder, and the real one where it is present."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from planted_data import Pets


@pytest.fixture
def noise():
    """Returns a function that makes a picture in which every pixel differs from its neighbours."""
    return make_noise


def make_noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def voc_tree(tmp_path):
    """Returns a function that writes a VOC folder of {id: (size, objects)} and returns its path.

    Objects are (name, (xmin, ymin, xmax, ymax)) or (name, box, difficult). Images are PNG: exact.
    """

    def write(images, split="train", stated_sizes=None):
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
        for i, (name, (size, objects)) in enumerate(images.items()):
            Image.fromarray(make_noise(*size, seed=i)).save(tmp_path / "JPEGImages" / f"{name}.png")
            height, width = (stated_sizes or {}).get(name, size)
            text = "".join(voc_object(*entry) for entry in objects)
            (tmp_path / "Annotations" / f"{name}.xml").write_text(
                f"<annotation><filename>{name}.png</filename><size><width>{width}</width>"
                f"<height>{height}</height></size>{text}</annotation>"
            )
        return tmp_path

    return write


def voc_object(name, box, difficult=0):
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box)
    )
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{corners}</bndbox></object>"
    )


@pytest.fixture
def coco_tree(tmp_path):
    """Returns a function that writes a COCO file and its images and returns both paths."""

    def write(images, annotations, categories=None, write_images=True):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        entries = []
        for i, (image_id, size) in enumerate(images.items()):
            name = f"{image_id}.png"
            if write_images:
                Image.fromarray(make_noise(*size, seed=i)).save(folder / name)
            height, width = size
            entries.append({"id": image_id, "file_name": name, "height": height, "width": width})
        if categories is None:
            # Neither in order nor without gaps, as in COCO itself.
            categories = [{"id": 90, "name": "tree"}, {"id": 3, "name": "car"}]
        path = tmp_path / "annotations.json"
        content = {"images": entries, "annotations": annotations, "categories": categories}
        path.write_text(json.dumps(content))
        return path, folder

    return write


@pytest.fixture
def bccd():
    """Folder of the BCCD dataset beside the repository."""
    path = pathlib.Path(__file__).parents[2].parent / "shared" / "data" / "bccd"
    if not path.is_dir():
        pytest.skip(f"The BCCD dataset is not at {path}.")
    return path


@pytest.fixture(scope="session")
def clean_pets(tmp_path_factory):
    return Pets(tmp_path_factory.mktemp("clean") / "pets")


@pytest.fixture
def pets(clean_pets, tmp_path):
    return clean_pets.copy(tmp_path / "pets")
