"""Presets of a detector class: listed, loaded and written."""

from typing import Any

from keras_gflv2.annotations import PathLike
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
