"""One export of the embedded detector for all tests of this folder, and pictures."""

import contextlib
import io
import os

import numpy as np
import pytest
from common import SHARED
from filelock import FileLock
from PIL import Image

from keras_gflv2 import cli

EXPORTED_NAME = "cells"


@pytest.fixture(scope="session")
def model(nano):
    return nano


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Folder NAME/VERSION as the command line writes it, once for all processes of the tests."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    directory = folder / "served" / EXPORTED_NAME / "1"
    with FileLock(folder / "export.lock"):
        if not directory.exists():
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                command = ["export", "--model", "nano_bccd", "--output", str(directory)]
                assert cli.main(command) == 0
            assert said.getvalue().splitlines()[-1] == f"Wrote {directory}"
    return str(directory)


@pytest.fixture(scope="session")
def pictures():
    """Encoded files: real blood cells where the data is, else drawn ones; of different sizes."""
    files = sorted((SHARED / "data" / "bccd").rglob("*.jpg"))[:10]
    if files:
        contents = [file.read_bytes() for file in files]
    else:
        contents = [encode(cells(seed, (480, 640))) for seed in range(10)]
    return [*contents, encode(cells(10, (301, 200))), encode(cells(11, (90, 333)), "PNG")]


def cells(seed, size):
    """Red and violet discs on a bright ground: uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.full((*size, 3), (225, 215, 205), "float64") + rng.normal(0, 3, (*size, 3))
    for _ in range(8):
        y, x, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(25, 50)
        colour = (190, 110, 120) if rng.random() < 0.8 else (110, 60, 150)
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = colour
    return image.clip(0, 255).astype("uint8")


def encode(image, kind="JPEG", **options):
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, kind, **options)
    return stream.getvalue()
