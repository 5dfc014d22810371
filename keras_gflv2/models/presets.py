"""Preset folders: a configuration and weights that make one detector."""

import json
import os
from pathlib import Path

import keras

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"


def descriptions():
    """{name: description} of the built-in presets."""
    return {}


def save(model, directory):
    """Writes `model` to `directory`, each file under a temporary name first; returns the path."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / f"partial-{WEIGHTS_FILE}"
    model.save_weights(weights)
    os.replace(weights, directory / WEIGHTS_FILE)
    config = directory / f"{CONFIG_FILE}.partial"
    record = {
        "keras_version": keras.__version__,
        "model": keras.saving.serialize_keras_object(model),
    }
    record["model"].pop("compile_config", None)
    record["model"].pop("build_config", None)
    config.write_text(json.dumps(record, indent=2))
    os.replace(config, directory / CONFIG_FILE)
    return str(directory)


def load(cls, preset, load_weights, overrides):
    """The detector of `preset`, with constructor arguments replaced by `overrides`."""
    directory = _find(preset)
    config = json.loads((directory / CONFIG_FILE).read_text())["model"]
    known = config["config"]
    changed = {**known, **overrides}
    if changed["num_classes"] != known["num_classes"] and "class_names" not in overrides:
        changed["class_names"] = None
    model = cls.from_config(changed)
    if not load_weights:
        return model
    if changed["num_classes"] == known["num_classes"]:
        model.load_weights(directory / WEIGHTS_FILE)
        return model
    original = cls.from_config(known)
    original.load_weights(directory / WEIGHTS_FILE)
    copy_weights(original, model)
    return model


def copy_weights(source, target):
    """Copies every weight but those of the classification convolution."""
    skipped = {id(v) for v in target.head.classification_conv.variables}
    for old, new in zip(source.variables, target.variables):
        if id(new) not in skipped:
            new.assign(old)


def _find(preset):
    directory = Path(preset)
    if not (directory / CONFIG_FILE).is_file():
        raise ValueError(
            f"{str(preset)!r} is neither a built-in preset ({list(descriptions()) or 'none yet'}) "
            f"nor a folder with a {CONFIG_FILE} as `save_to_preset` writes it."
        )
    return directory
