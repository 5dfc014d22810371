"""Presets of detectors: built-in ones, folders of `save_to_preset`, and handles of hubs."""

from pathlib import Path

from keras_gflv2.checkpoints.presets import (
    WEIGHTS_FILE,
    find_directory,
    preset_directory,
    read_config,
)
from keras_gflv2.models import zoo

# Detectors that come with the package, each in a folder of `save_to_preset`.
EMBEDDED_DIRECTORY = Path(__file__).parent / "embedded"
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
    if name in EMBEDDED:
        name = EMBEDDED_DIRECTORY / name
    if preset:

        def build(**changes):
            return cls(**preset.constructor_arguments(**changes))

        directory = preset_directory(preset, build) if load_weights else None
    else:
        directory = find_directory(name, descriptions())

        def build(**changes):
            return _from_config(cls, read_config(directory), changes)

    model = build(**overrides)
    if not load_weights:
        return model
    model.preset = record(origin)
    original = build() if overrides else model
    original.load_weights(directory / WEIGHTS_FILE)
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
    """Copies every weight; with another number of classes all but the classification's."""
    skipped = set()
    if source.num_classes != target.num_classes:
        skipped = {id(v) for v in target.head.classification_conv.variables}
    for old, new in zip(source.variables, target.variables, strict=True):
        if id(new) not in skipped:
            new.assign(old)
