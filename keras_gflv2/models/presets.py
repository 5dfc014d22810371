"""Presets of detectors: built-in ones, folders of `save_to_preset`, and handles of hubs."""

from pathlib import Path

import numpy as np
from keras import ops

from keras_gflv2.checkpoints import presets as folders
from keras_gflv2.models import zoo

# Detectors that come with the package, each in a folder of `save_to_preset`.
EMBEDDED_DIRECTORY = Path(__file__).parent / "embedded"
# How many class names a message lists.
MAX_NAMES = 10
EMBEDDED = {"nano_bccd": "blood cells (BCCD) at 240x320, 1.1 M parameters, in the package"}


def descriptions():
    """{name: description} of the built-in presets."""
    published = {name: preset.description for name, preset in zoo.DETECTORS.items()}
    return {**published, **EMBEDDED}


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
    """The detector of a preset, with constructor arguments replaced by `overrides`."""
    preset, origin = zoo.DETECTORS.get(name), str(name)
    if overrides.get("class_names") is not None:
        overrides = {"num_classes": len(overrides["class_names"]), **overrides}
    if preset:
        directory = None

        def build(**changes):
            return cls(**preset.constructor_arguments(**changes))

    else:
        embedded = EMBEDDED_DIRECTORY / str(name) if name in EMBEDDED else None
        directory = embedded or folders.find_directory(name, descriptions())

        def build(**changes):
            return _from_config(cls, folders.read_config(directory), changes)

        if not embedded:
            folders.check_directory(directory, build, load_weights)

    model = build(**overrides)
    if not load_weights:
        return model
    model.preset = record(origin)
    original = build() if overrides else model
    if preset:
        folders.load_published(original, preset, build)
    else:
        folders.load_weights(original, directory)
    if overrides:
        copy_weights(original, model)
    return model


def _from_config(cls, config, changes):
    """The detector of a configuration, with some arguments replaced."""
    changed = {**config, **changes}
    if changed["num_classes"] != config["num_classes"] and "class_names" not in changes:
        changed["class_names"] = None
    return cls.from_config(changed)


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
            values = np.array(ops.convert_to_numpy(new))
            values[..., known] = ops.convert_to_numpy(old)[..., rows[known]]
            new.assign(values)
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
            f"GFLV2: {missing} class names: the {target.num_classes} class rows of the "
            f"classification convolution {fate}."
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
            f"GFLV2: rows of the classification convolution follow the class names: "
            f"kept {_names(kept)}{moved}; start anew {_names(unknown)}{left}."
        )
    return rows


def _names(names):
    if not names:
        return "none"
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{len(names)} ({', '.join(map(str, names[:MAX_NAMES]))}{more})"
