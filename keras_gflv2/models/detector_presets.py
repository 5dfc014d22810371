"""Presets of a detector class: listed, loaded, written and put on a hub."""

import tempfile
from pathlib import Path
from typing import Any

from keras_gflv2.annotations import PathLike
from keras_gflv2.checkpoints.hub import check_upload, parse_handle, upload
from keras_gflv2.checkpoints.model_card import model_card
from keras_gflv2.checkpoints.presets import save_to_directory
from keras_gflv2.models import presets


class _ClassProperty:
    """A property of a class, made anew whenever it is asked for."""

    def __init__(self, function):
        self.function = function

    def __get__(self, instance, cls):
        return self.function(cls)


class DetectorPresets:
    """Mixin: what every detector can do with presets.

    Attributes:
        presets: {name: description} of the built-in presets that the class loads: its own, and
            those of the classes that are made from it.
    """

    presets = _ClassProperty(presets.descriptions)

    @classmethod
    def from_preset(cls, preset: PathLike, load_weights: bool = True, **overrides) -> Any:
        """A detector with trained weights.

        Published weights are downloaded once, converted, and kept in Keras's cache folder.
        `DenseDetector.from_preset` loads the presets of all detectors; the result is of the class
        that the preset is of.

        Args:
            preset: a name in `presets`, a folder that `save_to_preset` wrote, or an hf:// or
                kaggle:// handle of one.
            load_weights: False gives the architecture with fresh weights, without a network.
            **overrides: constructor arguments to change, e.g. `class_names`, `num_classes`,
                `bounding_box_format`. The rows of the classification convolution follow the class
                names; those of other names, or without names of another number, start anew.

        Raises:
            ValueError: there is no such preset, or it is of another class, which is named; or a
                folder is not whole, names classes that are not loaded from files, or has sizes or
                values that its weights cannot have.
            keras_gflv2.checkpoints.DownloadError: the weights cannot be had; the message says from
                where, and how to go on without a network.
        """
        return presets.load(cls, preset, load_weights, overrides)

    def save_to_preset(self, directory: PathLike, weights_dtype: str | None = None) -> str:
        """Writes configuration and weights to a folder that `from_preset` loads exactly.

        Args:
            directory: folder to write, made if it is not there.
            weights_dtype: "float16" stores the weights in half the size, rounded.

        Returns:
            Path of the folder.
        """
        return save_to_directory(self, directory, weights_dtype)

    def push_to_hub(
        self, handle, *, license=None, card=None, files=(), private=False, message=None, **facts
    ):
        """Puts the detector on a hub, where `from_preset` finds it by the same handle.

        ```python
        model.push_to_hub("hf://me/cells", license="apache-2.0", metrics=evaluate_coco(model, ds))
        ```

        Needs `pip install 'keras-gflv2[hub]'`, and to be logged in there. `keras-gflv2 push` fills
        the model card from a run of `keras-gflv2 train`.

        Args:
            handle: "hf://USER/NAME" or "kaggle://USER/NAME/keras/VARIATION".
            license: identifier of the license of the weights, e.g. "apache-2.0".
            card: text of the model card, README.md. By default one is written from the detector
                and `facts`.
            files: paths of other files to put beside it, pictures of the card say.
            private: whether a new repository of the Hugging Face Hub is private.
            message: of the version.
            **facts: `data`, `metrics` and `training` of `checkpoints.model_card`.

        Returns:
            Address of its page.

        Raises:
            ValueError: it is no handle.
            ImportError: the hub's package is not installed.
            keras_gflv2.checkpoints.UploadError: the hub did not take it.
        """
        check_upload(handle)
        if card is None:
            name = parse_handle(handle)[1].split("/")[1]
            card = model_card(self, name, handle, license=license, **facts)
        with tempfile.TemporaryDirectory() as folder:
            self.write_hub_folder(folder, card, files)
            return upload(folder, handle, license=license, private=private, message=message)

    def write_hub_folder(self, directory, card, files=()):
        """Writes what `push_to_hub` uploads: the preset, README.md and other files.

        Args:
            directory: folder to write, made if it is not there.
            card: text of the model card.
            files: paths of other files.
        """
        directory = Path(self.save_to_preset(directory))
        (directory / "README.md").write_text(card, encoding="utf-8")
        for file in map(Path, files):
            (directory / file.name).write_bytes(file.read_bytes())
