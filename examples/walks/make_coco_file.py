"""Pictures of toys of 20 classes with COCO files, and a checkpoint to start from.

    python examples/walks/make_coco_file.py toys

Draws five shapes in four colors to `images/`, with `train.json` and `val.json`. `checkpoint.pth` is
what a training with mmdetection leaves behind: a GFLV2 with three classes of blood cells (the
`nano_bccd` of this package), under mmdetection's names and in PyTorch's layout.
"""

import argparse
import json
import math
import pickle
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from keras_gflv2.cli.screen import quiet_libraries

SIDE = 160  # pixels of a picture
COLORS = {
    "red": (205, 60, 50), "green": (60, 150, 70), "blue": (60, 90, 200), "yellow": (230, 200, 60),
}  # fmt: skip
# Corners of each shape, as many times the radius from the center as this, and in turn as that.
SHAPES = {
    "ball": (48, (1.0,)), "block": (4, (1.0,)), "roof": (3, (1.0,)), "star": (10, (1.0, 0.45)),
    "cross": (12, (1.0, 1.0, 0.45)),
}  # fmt: skip
CLASSES = [f"{color} {shape}" for color in COLORS for shape in SHAPES]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path, help="folder to write")
    parser.add_argument("--images", type=int, default=500, help="how many; a fifth to validate on")
    given = parser.parse_args(arguments)
    (given.output / "images").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    in_val = given.images // 5
    for split, count in (("train", given.images - in_val), ("val", in_val)):
        content = draw_split(random, given.output / "images", split, count)
        (given.output / f"{split}.json").write_text(json.dumps(content))
        boxes = len(content["annotations"])
        print(f"{split}.json: {count} images, {boxes} boxes, {len(CLASSES)} classes")
    write_checkpoint(given.output / "checkpoint.pth")
    print(f"Wrote images, train.json, val.json and checkpoint.pth to {given.output}")


def draw_split(random, folder, split, count):
    """Draws the pictures of a split; returns the content of its COCO file."""
    images, annotations = [], []
    for index in range(1, count + 1):
        name = f"{split}_{index:04d}.jpg"
        picture, toys = draw_picture(random)
        picture.save(folder / name, quality=92)
        images.append({"id": index, "file_name": name, "height": SIDE, "width": SIDE})
        for label, (left, top, right, bottom) in toys:
            box = [left, top, right - left, bottom - top]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": label + 1,
                    "bbox": [round(value, 2) for value in box],
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def draw_picture(random):
    """A picture with two to six toys, which may hide a little of each other, and their boxes."""
    coarse = random.integers(120, 230, (5, 5, 3)).astype("uint8")
    picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    toys = []
    for _ in range(random.integers(2, 7)):
        label = int(random.integers(len(CLASSES)))
        box, corners = place(random, CLASSES[label].split()[1], [box for _, box in toys])
        if box is not None:
            paint(random, picture, corners, COLORS[CLASSES[label].split()[0]])
            toys.append((label, box))
    return picture, toys


def place(random, shape, others):
    """Box and corners of a toy beside the others; (None, None) if there is no room."""
    count, radii = SHAPES[shape]
    for _ in range(20):
        radius = random.uniform(12, 30)
        turn = random.uniform(-0.3, 0.3) - math.pi / 2 + (shape == "block") * math.pi / 4
        angles = turn + np.arange(count) * 2 * math.pi / count
        lengths = radius * np.resize(radii, count)
        center = random.uniform(radius, SIDE - radius, 2)
        corners = center + lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
        box = (*corners.min(axis=0), *corners.max(axis=0))
        if all(gap(box, other) > -4 for other in others):
            return [float(side) for side in box], corners
    return None, None


def gap(box, other):
    """Pixels between two boxes; negative as deep as they overlap."""
    return max(box[0] - other[2], other[0] - box[2], box[1] - other[3], other[1] - box[3])


def paint(random, picture, corners, color):
    """Paints a toy of nearly this color, in place, with smooth edges."""
    mask = Image.new("L", (4 * SIDE, 4 * SIDE))
    ImageDraw.Draw(mask).polygon([tuple(4 * corner) for corner in corners], fill=255)
    shade = np.array(color) * random.uniform(0.8, 1.1) + random.normal(0, 8, (SIDE, SIDE, 3))
    toy = Image.fromarray(shade.clip(0, 255).astype("uint8")).filter(ImageFilter.GaussianBlur(1))
    picture.paste(toy, mask=mask.reduce(4))


def write_checkpoint(path):
    """nano_bccd as mmdetection saves a detector; with torch where it is installed."""
    import keras

    import keras_gflv2
    from keras_gflv2.checkpoints.mmdetection import name_map

    model = keras_gflv2.GFLV2.from_preset("nano_bccd")
    state = {}
    for name, variable in name_map(model):
        value = keras.ops.convert_to_numpy(variable)
        if value.ndim == 4:  # (height, width, in, out) -> (out, in, height, width)
            value = value.transpose(3, 2, 0, 1)
        elif value.ndim == 2:  # dense layers are 1 x 1 convolutions there
            value = value.T[:, :, None, None]
        if name.startswith("bbox_head.gfl_cls"):  # the background, the last class there
            value = np.concatenate([value, value[:1]])
        state[name] = np.ascontiguousarray(value)
    checkpoint = {"meta": {"CLASSES": tuple(model.class_names)}, "state_dict": state}
    try:
        import torch
    except ImportError:  # a file that is read all the same
        path.write_bytes(pickle.dumps(checkpoint, 4))
        return
    state.update({name: torch.from_numpy(value) for name, value in state.items()})
    torch.save(checkpoint, path)


if __name__ == "__main__":
    with quiet_libraries():
        main()
