"""A small dataset in which a check must find nothing, for tests that plant something in it."""

import copy
import json
import shutil

import numpy as np
from PIL import Image, ImageDraw

from keras_gflv2 import data
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


def found(report, code, *texts, severity="error"):
    """The one finding of a code, which must say certain things."""
    (finding,) = report.of(code)
    assert finding.severity == severity and report.ok == (severity != "error")
    for text in texts:
        assert text in str(finding)
    return finding
