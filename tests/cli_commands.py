"""Arguments of a training of seconds, a dataset that a detector knows, and a command that must fail
as a mistake of the user."""

import json

from keras_gflv2 import cli

TINY = (
    "--backbone resnet18 --base-channels 8 --fpn-channels 16 --head-channels 16 --head-depth 1 "
    "--head-norm-groups 4 --image-size 64 64 --batch-size 4 --recipe scratch --verbose 0"
).split()
DATA = "--data shapes:train:4 --validation-data shapes:val:2".split()


def fails(capsys, *arguments):
    """Runs a command which must fail as a mistake of the user; returns what it says."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


def coco_of(model, paths, folder, at_least=20):
    """A dataset whose objects are what a detector finds in images, as --data names it."""
    images, annotations = [], []
    for index, path in enumerate(paths):
        images.append({"id": index, "file_name": path.name, "height": 240, "width": 320})
        (found,) = model.detect(path, 0.1)
        for box, label in zip(found["boxes"].tolist(), found["classes"].tolist()):
            x, y, right, bottom = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": label + 1,
                    "bbox": [x, y, right - x, bottom - y],
                    "area": (right - x) * (bottom - y),
                    "iscrowd": 0,
                }
            )
    assert len(annotations) >= at_least
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(model.class_names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    return f"coco:{folder / 'truth.json'}:{folder}"
