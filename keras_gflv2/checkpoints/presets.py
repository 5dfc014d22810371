"""Published weights by name: found, downloaded, converted once and kept."""

import dataclasses
import json
import os
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import filelock
import h5py
import keras
import numpy as np

from keras_gflv2.checkpoints.configs import check_classes, parse_config
from keras_gflv2.checkpoints.download import DownloadError, cache_directory, download, sha256
from keras_gflv2.checkpoints.errors import CheckpointError, describe
from keras_gflv2.checkpoints.load import load_checkpoint
from keras_gflv2.checkpoints.reading import read_checkpoint
from keras_gflv2.checkpoints.weight_files import check_sizes, check_weight_file

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
# Raised when a preset's configuration changes, so that older conversions are not used.
CACHE_VERSION = 1
HUB_MODULES = {"hf": "huggingface_hub", "kaggle": "kagglehub"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preset:
    """One published weight file; subclasses say to which model it belongs.

    Attributes:
        name: what `from_preset` takes.
        description: one line.
        url: where the weights are.
        file: name of the weight file.
        digest: first hexadecimal digits of the file's SHA-256, "" if they are not published.
        ap_val, ap_test_dev: published COCO AP, None for backbones or if not published.
        license: of the weights.
        compared: what of it the tests compare with the original, on deterministic weights.
    """

    name: str
    description: str
    url: str
    file: str
    digest: str = ""
    ap_val: float | None = None
    ap_test_dev: float | None = None
    license: str = ""
    compared: str = "names and shapes"

    def read_arguments(self, arrays):
        """Arguments of the function that builds the model, as the weights tell them."""
        del arrays
        return {}


def preset_directory(preset, build, renew=False):
    """Folder with the converted weights of a preset: from the cache, else made now.

    Args:
        preset: a `Preset`.
        build: function that makes its model, without weights.
        renew: whether what the cache has did not load, and is to be made again.

    Raises:
        DownloadError: the weights are not there and cannot be had; the message says what to do.
        CheckpointError: the file is not the one that it should be.
    """
    root = cache_directory()
    directory = root / f"{preset.name}-v{CACHE_VERSION}"
    if _is_complete(directory) and not renew:
        return directory
    root.mkdir(parents=True, exist_ok=True)
    # A second process waits here, and then finds the work done.
    with filelock.FileLock(root / f"{preset.name}.lock"):
        if renew or not _is_complete(directory):
            # Of processes that were killed as they converted.
            for partial in root.glob(f".{preset.name}-*"):
                shutil.rmtree(partial, ignore_errors=True)
            _convert_into(preset, build, directory)
    return directory


def read_converted_config(preset, build):
    """Constructor arguments of a published detector as its weight file has them.

    The file is downloaded and converted if need be. {} if what the cache has is not readable:
    `load_published` makes it again.
    """
    try:
        return read_config(preset_directory(preset, build))
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        return {}


def load_published(model, preset, build):
    """Loads the weights of a preset; what the cache has is made again if it does not load."""
    directory = preset_directory(preset, build)
    try:
        load_weights(model, directory)
    except ValueError:
        load_weights(model, preset_directory(preset, build, renew=True))


def _is_complete(directory):
    """Whether a converted folder is whole; others are made again."""
    try:
        parse_config((directory / CONFIG_FILE).read_bytes(), directory)
        with h5py.File(directory / WEIGHTS_FILE):  # which knows how long it should be
            return True
    except (OSError, ValueError):
        return False


def _convert_into(preset, build, directory):
    source = cache_directory() / preset.file
    given = source.is_file()
    aside, wrong = source.with_name(f"{source.name}.other"), ""
    if given and not sha256(source).startswith(preset.digest):
        # The user may have put it there: it is kept, under another name.
        os.replace(source, aside)
        given = False
        wrong = f"The SHA-256 of {source} does not begin with {preset.digest}: it is damaged, or "
        wrong += f"is not the file of {preset.name!r}. "
        warnings.warn(
            f"{wrong}It is kept as {aside.name}; the published file is downloaded.", stacklevel=2
        )
    if not given:
        try:
            download(preset.url, source, preset.digest)
        except (DownloadError, CheckpointError) as error:
            if wrong:
                os.replace(aside, source)
            if isinstance(error, CheckpointError):
                raise
            raise DownloadError(f"{wrong}{error}\n{_how_to_get(preset, source)}") from error
    try:
        arrays = read_checkpoint(source)
        model = load_checkpoint(build(**preset.read_arguments(arrays)), arrays)
    except CheckpointError as error:
        if not given:
            source.unlink()  # The next call downloads it anew.
        raise CheckpointError(
            f"{source} is not the weight file of {preset.name!r}: {error}"
        ) from error
    temporary = Path(tempfile.mkdtemp(prefix=f".{preset.name}-", dir=directory.parent))
    try:
        save_to_directory(model, temporary)
        shutil.rmtree(directory, ignore_errors=True)
        os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not given:
        source.unlink()


def _how_to_get(preset, source):
    return (
        f"Without a network: get {preset.url} on another machine, then put the file to {source}, "
        f"or run\n  keras-gflv2 convert FILE --preset {preset.name} --output DIR\n"
        "and pass DIR to `from_preset`. `load_weights=False` needs no weights."
    )


def find_directory(preset, known):
    """Folder of a preset that is not built in.

    Args:
        preset: a folder written by `save_to_preset`, or an hf:// or kaggle:// handle of one.
        known: names of the built-in presets, for the error message.

    Raises:
        ImportError: the library of a handle is not installed.
        ValueError: there is no such preset.
    """
    handle = re.match(r"(hf|kaggle)://(.+)", str(preset))
    directory = _fetch(*handle.groups()) if handle else Path(preset)
    if not (directory / CONFIG_FILE).is_file():
        raise ValueError(
            f"{str(preset)!r} is neither a built-in preset ({', '.join(known)}) nor a folder with "
            f"a {CONFIG_FILE} as `save_to_preset` writes it."
        )
    return directory


def read_class(directory):
    """The class of the model in a preset folder, checked against a list; None if unknown here.

    Raises:
        ValueError: the folder's configuration names a class that is not loaded from files.
    """
    path = Path(directory) / CONFIG_FILE
    record = parse_config(path.read_bytes(), path)
    read_config(directory)
    check_classes(record, path)
    name = record["model"].get("registered_name") or record["model"].get("class_name")
    return keras.saving.get_registered_object(name) if isinstance(name, str) else None


def check_directory(directory, build, load_weights=True):
    """Raises ValueError if a preset folder, of anyone, is not what may be loaded.

    Its classes are checked against a list (`configs.check_classes`), its sizes against its
    weights, and these for values that are not finite, all before the model is built.

    Args:
        directory: the folder.
        build: function that makes its model.
        load_weights: whether the weights are needed.
    """
    config_path, weights_path = Path(directory) / CONFIG_FILE, Path(directory) / WEIGHTS_FILE
    config = read_config(directory)
    check_classes(config, config_path)
    if not weights_path.is_file():
        if load_weights:
            raise ValueError(
                f"{directory} has no {WEIGHTS_FILE}: it was not written to its end. Write it with "
                "`save_to_preset` again, or pass load_weights=False."
            )
        return
    check_sizes(config, check_weight_file(weights_path), build, config_path)


def _fetch(scheme, name):
    module = HUB_MODULES[scheme]
    try:
        if scheme == "hf":
            import huggingface_hub

            return Path(huggingface_hub.snapshot_download(name))
        import kagglehub

        return Path(kagglehub.model_download(name))
    except ImportError as error:
        raise ImportError(f"{scheme}://{name} needs {module}: pip install {module}") from error
    except Exception as error:  # each library has errors of its own, and of its HTTP client
        raise DownloadError(
            f"{scheme}://{name} cannot be had ({describe(error)}). Check the handle, the network "
            "and, for private ones, that you are logged in."
        ) from error


def save_to_directory(model, directory, weights_dtype=None):
    """Writes configuration and weights, each file under a temporary name first."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    weights = directory / f"partial-{WEIGHTS_FILE}"
    model.save_weights(weights)
    _rewrite(weights, weights_dtype)
    os.replace(weights, directory / WEIGHTS_FILE)
    record = {
        "keras_version": keras.__version__,
        "model": keras.saving.serialize_keras_object(model),
    }
    record["model"].pop("compile_config", None)
    record["model"].pop("build_config", None)
    config = directory / f"{CONFIG_FILE}.partial"
    config.write_text(json.dumps(record, indent=2))
    os.replace(config, directory / CONFIG_FILE)
    return str(directory)


def _rewrite(path, dtype):
    """Rewrites a weights file without the optimizer's state, and its floats in another type.

    Args:
        path: the file.
        dtype: type of what is float32 so far, or None to leave it.

    Raises:
        ValueError: a weight is beyond the range of the type.
    """
    rewritten = path.with_name(f"rewritten-{path.name}")
    with h5py.File(path) as source, h5py.File(rewritten, "w") as target:

        def copy(name, item):
            if name.split("/")[0] == "optimizer":
                return
            if not isinstance(item, h5py.Dataset):
                target.require_group(name).attrs.update(item.attrs)
                return
            value = item[()]
            if dtype is not None and item.dtype == np.float32:
                value = np.asarray(value).astype(dtype)
                if not np.all(np.isfinite(value)):
                    raise ValueError(f"The weight {name} is beyond the range of {dtype}.")
            target[name] = value

        target.attrs.update(source.attrs)
        source.visititems(copy)
    os.replace(rewritten, path)


def read_config(directory):
    """Constructor arguments of the model in a preset folder.

    Raises:
        ValueError: the file is not what `save_to_preset` writes.
    """
    path = Path(directory) / CONFIG_FILE
    record = parse_config(path.read_bytes(), path)
    model = record.get("model")
    config = model.get("config") if isinstance(model, dict) else None
    if not isinstance(config, dict) or "num_classes" not in config or "backbone" not in config:
        raise ValueError(
            f"{path} is no configuration of a detector: it lacks model.config with num_classes and "
            "backbone, as `save_to_preset` writes them."
        )
    return config


def load_weights(model, directory):
    """Loads the weights of a preset folder.

    Raises:
        ValueError: they are those of another model.
    """
    path = Path(directory) / WEIGHTS_FILE
    try:
        model.load_weights(path)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} does not fit the model of {CONFIG_FILE} beside it ({describe(error)})."
        ) from error
