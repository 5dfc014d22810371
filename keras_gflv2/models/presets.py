"""Presets of detectors: built-in ones, folders of `save_to_preset`, and handles of hubs."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_gflv2.checkpoints import presets as folders
from keras_gflv2.models import zoo

# Detectors that come with the package, each in a folder of `save_to_preset`.
EMBEDDED_DIRECTORY = Path(__file__).parent / "embedded"
# How many class names a message lists.
MAX_NAMES = 10
EMBEDDED = {"nano_bccd": "blood cells (BCCD) at 240x320, 1.1 M parameters, in the package"}
EMBEDDED_DETECTOR = "GFLV2"


def detector_names():
    """{name of a built-in preset: name of its detector}"""
    published = {name: preset.detector for name, preset in zoo.DETECTORS.items()}
    return {**published, **dict.fromkeys(EMBEDDED, EMBEDDED_DETECTOR)}


def descriptions(cls):
    """{name: description} of the built-in presets that a detector class loads."""
    published = {name: preset.description for name, preset in zoo.DETECTORS.items()}
    return {
        name: {**published, **EMBEDDED}[name]
        for name, detector in detector_names().items()
        if _class_to_build(cls, _registered(detector))
    }


def record(name):
    """{"name", ...} with what is published of a preset: for exports, which carry it along."""
    if name in EMBEDDED:
        return {"name": name, "description": EMBEDDED[name]}
    preset = zoo.DETECTORS.get(name)
    if preset is None:
        return {"name": name}
    names = ("description", "url", "license", "ap_val", "ap_test_dev")
    return {"name": name, **{key: getattr(preset, key) for key in names}}


def load(cls, name, load_weights, overrides):
    """The detector of a preset, with constructor arguments replaced by `overrides`.

    Args:
        cls: the class that it must be of, or a base of it.
        name: of a built-in preset, path of a folder or handle of one.
        load_weights: whether it gets the weights of the preset.
        overrides: constructor arguments.

    Raises:
        ValueError: there is no such preset, or it is of another class.
    """
    if overrides.get("class_names") is not None:
        overrides = {"num_classes": len(overrides["class_names"]), **overrides}
    if name in zoo.DETECTORS:
        build, load_into = _published(cls, zoo.DETECTORS[name], load_weights)
    else:
        build, load_into = _folder(cls, name, load_weights)
    model = build(**overrides)
    if not load_weights:
        model.calibration = None  # it is of the weights
        return model
    model.preset = record(str(name))
    original = build() if overrides else model
    load_into(original)
    if overrides:
        copy_weights(original, model)
    return model


def _published(cls, preset, load_weights):
    """Functions that make the detector of a published preset, and load its weights."""
    detector = _class_of(cls, preset.detector_class, preset.name)
    of_file = {}

    def build(backbone_arguments=None, **changes):
        of_backbone = {**of_file, **(backbone_arguments or {})}
        return detector(**preset.constructor_arguments(of_backbone, **changes))

    if load_weights:
        backbone = folders.read_converted_config(preset, build).get("backbone", {})
        if "deformable_version" in backbone.get("config", {}):
            of_file["deformable_version"] = backbone["config"]["deformable_version"]
    return build, lambda model: folders.load_published(model, preset, build)


def _folder(cls, name, load_weights):
    """The same for a folder, or a detector that comes with the package."""
    embedded = EMBEDDED_DIRECTORY / str(name) if name in EMBEDDED else None
    directory = embedded or folders.find_directory(name, descriptions(cls))
    detector = _class_of(cls, folders.read_class(directory) or cls, name)

    def build(**changes):
        return _from_config(detector, folders.read_config(directory), changes)

    if not embedded:
        folders.check_directory(directory, build, load_weights)
    return build, lambda model: folders.load_weights(model, directory)


# === Classes ===


def _registered(name):
    return keras.saving.get_registered_object(f"keras_gflv2>{name}")


def _class_of(cls, found, name):
    """The class to build where `cls` is asked for a preset of the class `found`.

    Raises:
        ValueError: it is of another class; the message names it.
    """
    detector = _class_to_build(cls, found)
    if detector is None:
        raise ValueError(
            f"{str(name)!r} is a preset of {found.__name__}, not of {cls.__name__}: load it with "
            f"`{found.__name__}.from_preset`, or with `DenseDetector.from_preset`, which loads "
            "detectors of all classes."
        )
    return detector


def _class_to_build(cls, found):
    """`found` where `cls` is a base of it; `cls` where it is a user's subclass of `found`."""
    if found is None:
        return None
    if issubclass(found, cls):
        return found
    package = __name__.split(".")[0]
    ours = next((c for c in cls.__mro__ if c.__module__.split(".")[0] == package), None)
    return cls if ours is found else None


def _from_config(cls, config, changes):
    """The detector of a configuration, with some arguments replaced."""
    changed = {**config, **changes}
    if changed["num_classes"] != config["num_classes"] and "class_names" not in changes:
        changed["class_names"] = None
    return cls.from_config(changed)


# === Weights ===


def copy_weights(source, target):
    """Copies every weight; the rows of the classification convolution follow the class names.

    Rows of classes that only `target` has keep the values that they start with. What is not
    simply kept is printed.
    """
    classifier = {id(variable) for variable in source.head.classification_conv.variables}
    different = [
        old.path
        for old, new in zip(source.variables, target.variables)
        if id(old) not in classifier and tuple(old.shape) != tuple(new.shape)
    ]
    if different or len(source.variables) != len(target.variables):
        raise ValueError(
            "The weights do not fit the changed arguments: only those that leave every shape but "
            f"the number of classes can be changed. The first weights: {different[:3]}."
        )
    rows = np.array(match_classes(source, target))
    known = rows >= 0
    for old, new in zip(source.variables, target.variables):
        if id(old) in classifier:
            # One row per class for each anchor of a cell: (..., anchors * C).
            values = np.array(ops.convert_to_numpy(new))
            values = values.reshape(*values.shape[:-1], -1, target.num_classes)
            kept = ops.convert_to_numpy(old)
            kept = kept.reshape(*kept.shape[:-1], -1, source.num_classes)
            values[..., known] = kept[..., rows[known]]
            new.assign(values.reshape(new.shape))
        else:
            new.assign(old)


def match_classes(source, target):
    """For each class of `target` the class of `source` whose row it gets, or -1; prints which.

    Classes are matched by name. Where a side has no names, equal numbers of classes are taken for
    the same classes.
    """
    old, new = source.class_names, target.class_names
    in_order = list(range(target.num_classes))
    if not old or not new:
        same = source.num_classes == target.num_classes
        missing = "neither side has" if not old and not new else "one side has no"
        fate = "keep their order" if same else "start anew"
        if same and not old and not new:
            return in_order
        print(
            f"{type(target).__name__}: {missing} class names: the {target.num_classes} class rows "
            f"of the classification convolution {fate}."
        )
        return in_order if same else [-1] * target.num_classes
    index = {name: row for row, name in enumerate(old)}
    rows = [index.get(name, -1) for name in new]
    kept = [name for name in new if name in index]
    unknown = [name for name in new if name not in index]
    if rows != in_order or len(old) != len(new):
        moved = " (moved to their new places)" if rows != in_order and kept else ""
        left = f"; {len(old) - len(set(kept))} left out" if len(old) > len(set(kept)) else ""
        print(
            f"{type(target).__name__}: rows of the classification convolution follow the class "
            "names: "
            f"kept {_names(kept)}{moved}; start anew {_names(unknown)}{left}."
        )
    return rows


def _names(names):
    if not names:
        return "none"
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{len(names)} ({', '.join(map(str, names[:MAX_NAMES]))}{more})"
