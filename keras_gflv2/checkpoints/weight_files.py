"""Keras's HDF5 weight files of strangers: what is in them, before a model is built for them."""

import math
import os
import random
import re

import h5py
import keras
import numpy as np
from keras.src.backend.common import global_state

from keras_gflv2.checkpoints.configs import count_classes
from keras_gflv2.checkpoints.errors import describe, shorten

# How much larger than the file its arrays may be; Keras does not compress them.
MAX_RATIO = 20
ARRAY_KINDS = "biuf"
# A model may have so many more numbers than its weight file: those of random generators, say.
MAX_GROWTH = 2
SPARE_NUMBERS = 2**20
# Numbers that are no size of a weight: of pixels, boxes, or steps.
MAX_PLAIN_NUMBER = 2**14
NO_SIZES = re.compile("seed|steps|iterations|batch|image|shape|decoder|_id$")
COUNTS = re.compile("depth|blocks|layers|repeats")
OBJECTS_PER_WEIGHT = 100
SPARE_LAYERS = 200  # of tiny models, whose parts without weights count as well


def check_weight_file(path, origin=None):
    """Reads the shapes of a Keras weight file, and makes sure that its values can be loaded.

    Args:
        path: the `.weights.h5` file, or one that is open for reading.
        origin: how messages name it; by default the path.

    Returns:
        {name: shape} of the weights, without the optimizer's.

    Raises:
        ValueError: it is no whole HDF5 file, refers to other files, claims more than it holds, or
            has a weight that is not finite; the message says which.
    """
    origin = origin or str(path)
    size = _size(path)
    try:
        with h5py.File(path, "r") as file:
            datasets = _datasets(file, origin)
            _check_total(datasets, size, origin)
            datasets = _weights(datasets)
            _check_finite(datasets, origin)
            return {name: dataset.shape for name, dataset in datasets.items()}
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{origin} is no whole file of Keras weights ({describe(error)}): it is damaged, or "
            "was not written to its end. Write the model again, or get the file again."
        ) from None


def _size(path):
    if hasattr(path, "seek"):
        size = path.seek(0, os.SEEK_END)
        path.seek(0)
        return size
    return os.path.getsize(path)


def _datasets(file, origin):
    """{name: dataset} of everything in a file, each link looked at before it is followed."""
    datasets, waiting, seen = {}, [("", file)], set()
    while waiting:
        prefix, group = waiting.pop()
        for name in group:
            full = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(
                    f"{origin}: {shorten(full)} is an external link to the file "
                    f"{shorten(link.filename)}; other files are not read."
                )
            if isinstance(link, h5py.SoftLink):
                raise ValueError(
                    f"{origin}: {shorten(full)} is a soft link to {shorten(link.path)}; Keras "
                    "writes none, and none is followed."
                )
            item = group[name]
            if isinstance(item, h5py.Group):
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise ValueError(f"{origin}: {shorten(full)} is there under two names.")
                seen.add(address)
                waiting.append((f"{full}/", item))
            else:
                _check_dataset(item, f"{origin}: {shorten(full)}")
                datasets[full] = item
    return datasets


def _check_dataset(item, what):
    if not isinstance(item, h5py.Dataset):
        raise ValueError(f"{what} holds no numbers.")
    if item.external:
        raise ValueError(f"{what} is stored in other files (external storage); none is read.")
    if item.is_virtual:
        raise ValueError(f"{what} is a virtual dataset, made of other files; none is read.")
    if item.shape is None or not (item.dtype.kind in ARRAY_KINDS or _is_bfloat16(item)):
        raise ValueError(f"{what} holds no numbers, but {item.dtype}.")


def _is_bfloat16(item):
    return item.dtype.kind == "V" and item.dtype.itemsize == 2 and "dtype" in item.attrs


def _check_total(datasets, size, origin):
    total = sum(math.prod(item.shape) * item.dtype.itemsize for item in datasets.values())
    if total > MAX_RATIO * size:
        raise ValueError(
            f"{origin}: its arrays claim {total:,} bytes, more than {MAX_RATIO} times the file's "
            f"{size:,}. It is damaged, or no weight file."
        )


def _check_finite(datasets, origin):
    for name, dataset in datasets.items():
        values = dataset[()]
        if values.dtype.kind == "V":  # bfloat16: all bits of the exponent
            wrong = np.count_nonzero((values.view("uint16") & 0x7F80) == 0x7F80)
        else:
            wrong = values.size - np.count_nonzero(np.isfinite(values))
        if wrong:
            raise ValueError(
                f"{origin}: {wrong:,} of the {values.size:,} values of the weight {shorten(name)} "
                "are not finite (NaN or infinity): the training diverged, or the file is damaged. "
                "Take an earlier checkpoint."
            )


def check_store(store):
    """Raises ValueError if weights that Keras is about to load have values that are not finite.

    Args:
        store: what Keras gives to `load_own_variables` of the model itself.
    """
    file = getattr(store, "h5_file", None)
    if isinstance(file, h5py.File):
        _check_finite(_weights(_datasets(file, "The weight file")), "The weight file")


def _weights(datasets):
    return {name: item for name, item in datasets.items() if name.split("/")[0] != "optimizer"}


def check_sizes(config, shapes, build, origin):
    """Raises ValueError if a configuration describes a model far larger than its weights.

    Args:
        config: the configuration, from JSON.
        shapes: {name: shape} of its weights, as `check_weight_file` returns.
        build: function that makes the model.
        origin: how messages name the file of the configuration.
    """
    limit = max([MAX_PLAIN_NUMBER, *(n for shape in shapes.values() for n in shape)])
    waiting, layers = [("", config)], count_classes(config) / OBJECTS_PER_WEIGHT
    while waiting:
        key, value = waiting.pop()
        if NO_SIZES.search(key):
            continue
        if isinstance(value, dict):
            waiting.extend(value.items())
        elif isinstance(value, list):
            waiting.extend((key, item) for item in value)
        elif isinstance(value, int):
            layers += abs(value) if COUNTS.search(key) else 0
            if abs(value) > limit:
                raise ValueError(
                    f"{origin} has {key}={shorten(str(value))}, but no weight of its weight file "
                    f"has a side above {limit}: they do not belong together. Nothing was built."
                )
    if layers > len(shapes) + SPARE_LAYERS:
        raise ValueError(
            f"{origin} describes more layers than its {len(shapes)} weights are for: they do not "
            "belong together. Nothing was built."
        )
    available = sum(math.prod(shape) for shape in shapes.values())
    needed = _count_numbers(build, origin)
    if needed > MAX_GROWTH * available + SPARE_NUMBERS:
        raise ValueError(
            f"{origin} describes a model of {needed:,} parameters, but its weight file has "
            f"{available:,} numbers: they do not belong together. Nothing was built."
        )


def _count_numbers(build, origin):
    """How many numbers the weights of a model have, without making them."""
    state = random.getstate()
    before = list(global_state.get_global_attribute("uninitialized_variables") or [])
    try:
        # In this scope variables have shapes, and get their values at its end: here never.
        with keras.StatelessScope(initialize_variables=False):
            return sum(math.prod(variable.shape) for variable in build().weights)
    except Exception as error:
        if "stateless scope" in str(error):
            return 0  # A layer of the user's own that needs values as it is made.
        raise ValueError(
            f"{origin} does not describe a detector that can be built: {describe(error)}."
        ) from error
    finally:
        random.setstate(state)
        global_state.set_global_attribute("uninitialized_variables", before)
