"""`.keras` files of strangers: checked, then loaded by Keras."""

import copy
import os
from pathlib import Path

import keras

from keras_gflv2.checkpoints.archives import open_archive
from keras_gflv2.checkpoints.configs import check_classes, parse_config
from keras_gflv2.checkpoints.errors import CheckpointError, describe
from keras_gflv2.checkpoints.weight_files import check_sizes, check_weight_file

CONFIG_PART = "config.json"
WEIGHTS_PART = "model.weights.h5"


def load_keras_file(path, custom_objects=None, compile=True):
    """`keras.saving.load_model` for a file that may come from anyone.

    Before anything is built, the classes that the file names are checked against a list
    (`configs.check_classes`), its sizes against the weights that it holds, and the weights for
    values that are not finite.

    Args:
        path: a `.keras` file.
        custom_objects, compile: as of `keras.saving.load_model`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no whole `.keras` file, or one of the checks fails.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The model {path} does not exist.")
    try:
        with path.open("rb") as file:
            archive = open_archive(file, os.fstat(file.fileno()).st_size, compressed=("",))
            missing = {CONFIG_PART, WEIGHTS_PART} - set(archive.namelist())
            if missing:
                raise CheckpointError(f"its part {sorted(missing)[0]} is missing")
            config = parse_config(archive.read(CONFIG_PART), f"{path}: {CONFIG_PART}")
            check_classes(config, path, custom_objects)
            with archive.open(WEIGHTS_PART) as weights:
                shapes = check_weight_file(weights, f"{path}: {WEIGHTS_PART}")
    except CheckpointError as error:
        raise ValueError(f"{path} is no .keras file: {error}.") from None
    except ValueError:
        raise
    except Exception as error:  # whatever a damaged archive leads to
        raise ValueError(
            f"{path} is no whole .keras file ({describe(error)}): it is damaged, or was not "
            "written to its end."
        ) from None

    config.pop("compile_config", None)

    def build():
        return keras.saving.deserialize_keras_object(copy.deepcopy(config), custom_objects)

    check_sizes(config, shapes, build, path)
    return keras.saving.load_model(path, custom_objects=custom_objects, compile=compile)
