"""What all rows of a reproduction share: data, sizes of the detector and schedule."""

import dataclasses
import json
import os


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all rows of a reproduction share.

    Attributes:
        data, validation_data: as `--data` of the command line has them.
        image_size: (short side, longest long side) in pixels.
        batch_size: images per step, on all devices together.
        recipe: name of a recipe.
        epochs, learning_rate: instead of the recipe's, or None.
        backbone: arguments of `backbones.ResNet`, with "preset" of `ResNet.from_preset`.
        sizes: constructor arguments of all detectors.
        optimizer: arguments of the recipe's optimizer.
        loader: options of the loader of the training data.
        flips: probabilities of a horizontal and a vertical flip in training.
        validation_loader: options of the loader of the validation data.
    """

    data: str
    validation_data: str
    image_size: tuple = (800, 1333)
    batch_size: int = 16
    recipe: str = "1x"
    epochs: int | None = None
    learning_rate: float | None = None
    backbone: dict = dataclasses.field(
        default_factory=lambda: {"preset": "resnet50_imagenet", "frozen_stages": 1}
    )
    sizes: dict = dataclasses.field(default_factory=dict)
    optimizer: dict = dataclasses.field(default_factory=dict)
    loader: dict = dataclasses.field(default_factory=dict)
    validation_loader: dict = dataclasses.field(default_factory=dict)
    flips: tuple = (0.5, 0.0)

    def to_json(self):
        """As text, which `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text):
        values = json.loads(text)
        tuples = {name: tuple(values[name]) for name in ("image_size", "flips")}
        return cls(**{**values, **tuples})

    def replace(self, **changes):
        """A copy with other values, where these are not None."""
        changes = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(self, **changes)

    def equals(self, other):
        """Whether results of both can be compared: all is equal but the folders of the data."""
        return self._without_folders().to_json() == other._without_folders().to_json()

    def _without_folders(self):
        data, validation_data = (
            ":".join(os.path.basename(part.rstrip("/")) for part in text.split(":"))
            for text in (self.data, self.validation_data)
        )
        return dataclasses.replace(self, data=data, validation_data=validation_data)

    # === Its parts ===

    def datasets(self, seed):
        """Training data in the order of `seed`, and validation data."""
        from keras_gflv2.cli.sources import load_data
        from keras_gflv2.data import Augmentation
        from keras_gflv2.recipes import get

        train_ds = load_data(
            self.data,
            batch_size=self.batch_size,
            image_size=get(self.recipe).image_size(*self.image_size),
            train=True,
            seed=seed,
            augmentation=Augmentation(horizontal_flip=self.flips[0], vertical_flip=self.flips[1]),
            **self.loader,
        )
        return train_ds, self.validation_dataset(train_ds.class_names)

    def validation_dataset(self, class_names=None, batch_size=None):
        """Validation data with the classes of the training data."""
        from keras_gflv2.cli.sources import load_data

        return load_data(
            self.validation_data,
            batch_size=batch_size or self.batch_size,
            image_size=self.image_size,
            class_names=class_names,
            **self.validation_loader,
        )

    def detector(self, row, class_names):
        """A new detector of a `Row`."""
        import keras_gflv2

        backbone = dict(self.backbone)
        preset = backbone.pop("preset", None)
        resnet = keras_gflv2.backbones.ResNet
        backbone = resnet.from_preset(preset, **backbone) if preset else resnet(**backbone)
        return row.build(
            backbone,
            num_classes=len(class_names),
            class_names=class_names,
            image_size=self.image_size,
            **self.sizes,
        )

    def plan(self, train_ds):
        """The recipe's `Plan` for the training data."""
        from keras_gflv2 import recipes

        return recipes.get(self.recipe).plan(
            len(train_ds) * self.batch_size,
            self.batch_size,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
        )


# A ResNet-18 of a quarter of the width and a small head, at the recipe's learning rate: at 3e-3
# the predicted quality ended up constant in one of three trainings of GFLV2. The same normalization
# in all rows: from nothing, towers without it (RetinaNet, FoveaBox) would be compared by how they
# start.
SMALL = {
    "recipe": "scratch",
    "batch_size": 8,
    "backbone": {
        "depth": 18,
        "base_channels": 16,
        "batch_norm_statistics": "batch",
        "zero_init_residual": False,
    },
    "sizes": {"fpn_channels": 48, "head_channels": 48, "head_depth": 2, "head_norm_groups": 8},
}
SMALL_SHAPES = {
    **SMALL,
    "image_size": (128, 128),
    "epochs": 12,
    "loader": {"objects": (3, 8)},
}
SMALL_PHOTOS = {**SMALL, "image_size": (120, 160), "epochs": 40, "flips": (0.5, 0.5)}
SMALL_SHAPES_IMAGES = (768, 256)


def choose(data, validation_data=None, small=False):
    """The `Setup` for some data.

    Args:
        data: as `--data`: training images, or a whole dataset with its usual splits.
        validation_data: images to evaluate on; can be left out with a whole dataset.
        small: for two CPU cores instead of the paper's ResNet-50 and schedule.
    """
    data, validation_data = splits_of(data, validation_data)
    if not small:
        return Setup(data, validation_data)
    kind, *rest = data.split(":")
    if kind != "shapes":
        return Setup(data, validation_data, **SMALL_PHOTOS)
    if rest == ["train"] and validation_data == "shapes:val":
        data, validation_data = (
            f"shapes:{split}:{n}" for split, n in zip(("train", "val"), SMALL_SHAPES_IMAGES)
        )
    return Setup(data, validation_data, **SMALL_SHAPES)


def splits_of(data, validation_data):
    """Training and validation data, both named, of what may be a whole dataset.

    Args:
        data: "coco:FOLDER" as COCO 2017 is unpacked, "voc:FOLDER" with the splits train and val,
            "shapes", or one split of any data.
        validation_data: one split, or None.

    Raises:
        ValueError: `data` is one split and `validation_data` is missing.
    """
    kind, *rest = data.split(":", 1)
    if validation_data:
        return data, validation_data
    if kind == "shapes" and not rest:
        return "shapes:train", "shapes:val"
    if rest and ":" not in rest[0]:
        folder = rest[0]
        if kind == "voc":
            return f"voc:{folder}:train", f"voc:{folder}:val"
        if kind == "coco":
            return tuple(
                f"coco:{folder}/annotations/instances_{split}.json:{folder}/{split}"
                for split in ("train2017", "val2017")
            )
    raise ValueError(
        f"--data {data} is one split: add --validation-data, or give a whole dataset, "
        "coco:FOLDER (as COCO 2017 is unpacked), voc:FOLDER (with splits train and val) or shapes."
    )
