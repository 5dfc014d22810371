"""Weight files of PyTorch and PaddlePaddle in, numpy arrays by name out; nothing of a file runs."""

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_gflv2.annotations import PathLike
from keras_gflv2.checkpoints.archives import is_npz, open_archive, read_npz
from keras_gflv2.checkpoints.errors import CheckpointError, describe, shorten
from keras_gflv2.checkpoints.pickle_values import MAX_NAME, PickledArray, Tensor
from keras_gflv2.checkpoints.pickles import PickleReader

# The first pickle of PyTorch's format before 1.6 is this number.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Under which the weights lie in a file that holds more; averaged ones first, as they are scored.
WEIGHTS_KEYS = ("ema_state_dict", "state_dict", "model", "model_state_dict")
# Names that a wrapper for several devices puts before all others.
WRAPPER_PREFIX = "module."
# How much larger than the file its arrays may be: bfloat16 doubles, and tensors share storages.
MAX_RATIO = 4
BYTE_ORDERS = {b"little": "<", b"big": ">"}


def read_checkpoint(path: PathLike) -> dict[str, Any]:
    """Reads the arrays of a weight file, without its framework and without running anything of it.

    Args:
        path: a file of `torch.save` (zip or legacy), of `paddle.save` (pickle protocols 2 to 4), or
            an `.npz`.

    Returns:
        Dictionary of numpy arrays, in the file's names and layouts. bfloat16 becomes float32.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no weight file, damaged, or holds what does not belong there; the
            message says which.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file {path}.")
    try:
        with path.open("rb") as file:
            bounded = _BoundedFile(file)
            content, load = _read(bounded)
            arrays = _arrays(content, load, MAX_RATIO * bounded.size)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}.") from None
    except Exception as error:
        # Whatever a damaged file leads to, from a wrong index to a wrong checksum.
        raise CheckpointError(f"{path} is damaged or cut off: {describe(error)}.") from None
    if not arrays:
        raise CheckpointError(f"{path} holds no weights.")
    return arrays


class _BoundedFile(io.RawIOBase):
    """A file that never makes room for more than it holds, whatever size is asked for."""

    def __init__(self, file):
        self.file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, size=-1):
        rest = max(self.size - self.file.tell(), 0)
        return self.file.read(rest if size is None or size < 0 else min(size, rest))

    def readline(self, size=-1):
        return self.file.readline(size)

    def seek(self, offset, whence=os.SEEK_SET):
        return self.file.seek(offset, whence)

    def tell(self):
        return self.file.tell()

    def seekable(self):
        return True

    def readable(self):
        return True


def _read(file):
    """What a file's pickle holds, and a function that reads the numbers of a `Storage`."""
    start = file.read(512)
    file.seek(0)
    if not start:
        raise CheckpointError("the file is empty")
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(file)
    if start.lstrip()[:1] == b"<":
        raise CheckpointError(
            "it is an HTML or XML page, not weights; the server may have sent an error, or a page "
            "that asks for confirmation"
        )
    if start[:1] != b"\x80":
        raise CheckpointError("it is no file of torch.save, paddle.save or numpy.savez")
    reader = PickleReader(file.size)
    content = reader.read(file)
    if isinstance(content, int) and content == LEGACY_MAGIC:
        return _read_legacy(file, reader)
    return content, _no_storage


def _no_storage(storage):
    raise CheckpointError("its tensors have no storages")


# === PyTorch since 1.6: a zip archive of a pickle and one file a storage ===


def _read_zip(file):
    # PyTorch never compresses, numpy.savez_compressed does.
    archive = open_archive(file, file.size, compressed=(".npy",))
    if is_npz(archive):
        return read_npz(archive), _no_storage
    names = archive.namelist()
    wrong = archive.testzip()
    if wrong:
        raise CheckpointError(f"the checksum of its part {shorten(wrong)} is wrong")
    found = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
    if not found:
        raise CheckpointError("it is a zip file, but not one of torch.save")
    if len(found) > 1:
        raise CheckpointError(f"it is {len(found)} files of torch.save in one")
    folder = found[0].removesuffix("data.pkl")
    order = "<"
    if f"{folder}byteorder" in names:
        stated = archive.read(f"{folder}byteorder")
        if stated not in BYTE_ORDERS:
            raise CheckpointError(
                "its byte order is neither little nor big, but "
                f"{shorten(stated[:MAX_NAME].decode('latin1'))}"
            )
        order = BYTE_ORDERS[stated]
    content = PickleReader(file.size).read(io.BytesIO(archive.read(found[0])))

    def load(storage):
        name = f"{folder}data/{storage.key}"
        if name not in names:
            raise CheckpointError(f"the storage {shorten(storage.key)} is missing")
        numbers = _numbers(archive.read(name), storage.dtype, order)
        _check_count(storage, len(numbers))
        return numbers

    return content, load


# === PyTorch before 1.6: pickles, then the storages one after the other ===


def _read_legacy(file, reader):
    version = reader.read(file)
    if not isinstance(version, int) or version != LEGACY_PROTOCOL:
        raise CheckpointError("it is of an unknown version of PyTorch's legacy format")
    system = reader.read(file)
    little = system.get("little_endian", True) if isinstance(system, dict) else None
    if not isinstance(little, bool):
        raise CheckpointError("its byte order is neither little nor big")
    content = reader.read(file)
    storages, keys, numbers = reader.storages, reader.read(file), {}
    if not isinstance(keys, list):
        raise CheckpointError("it has no list of storages")
    for key in keys:
        if not isinstance(key, str) or key not in storages:
            raise CheckpointError(f"no tensor uses the storage {shorten(key)}")
        if key in numbers:
            raise CheckpointError(f"the storage {shorten(key)} is there twice")
        storage = storages[key]
        count = int.from_bytes(_exactly(file, 8), "little")
        _check_count(storage, count)
        data = _exactly(file, count * _item_size(storage.dtype))
        numbers[key] = _numbers(data, storage.dtype, "<" if little else ">")
    if file.read(1):
        raise CheckpointError("something follows after its end")

    def load(storage):
        if storage.key not in numbers:
            raise CheckpointError(f"the storage {shorten(storage.key)} is missing")
        return numbers[storage.key]

    return content, load


def _check_count(storage, count):
    if count != storage.count:
        raise CheckpointError(
            f"the storage {shorten(storage.key)} has {count} numbers, not {storage.count}"
        )


def _exactly(file, size):
    data = file.read(size)
    if len(data) != size:
        raise CheckpointError("it is cut off")
    return data


# === Tensors ===


def _item_size(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _numbers(data, dtype, order):
    """The numbers of a storage, (count,), in this machine's byte order."""
    if dtype == "bfloat16":  # the upper half of a float32
        halves = np.frombuffer(data, f"{order}u2").astype("uint32")
        return (halves << 16).view("float32")
    stored = np.frombuffer(data, np.dtype(dtype).newbyteorder(order))
    return stored.astype(np.dtype(dtype), copy=False)


def _view(numbers, tensor):
    """The elements of a tensor in its storage; they need not lie in a row."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    size = math.prod(shape)
    if len(shape) != len(strides):
        raise CheckpointError(f"a tensor has the shape {shape} and the strides {strides}")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) if size else offset
    if size > len(numbers) or last >= len(numbers) + (size == 0):
        raise CheckpointError(f"a tensor of the shape {shape} is larger than its storage")
    item = numbers.itemsize
    return np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [stride * item for stride in strides], writeable=False
    )


# === Finding the weights among what a training saves ===


def _weights(content):
    """The dictionary of weights in a checkpoint."""
    if not isinstance(content, dict):
        raise CheckpointError("it holds no dictionary of weights")
    for key in WEIGHTS_KEYS:
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def _arrays(content, load, limit):
    """{name: array} of the weights, without what is no array.

    Args:
        content: what the file's pickle holds.
        load: function that reads the numbers of a `Storage`; each is read once.
        limit: bytes that all arrays may have.
    """
    arrays, storages = {}, {}
    for name, value in _weights(content).items():
        if not isinstance(name, str):
            raise CheckpointError(f"a weight is named by a {name.kind}, not by text")
        if len(name) > MAX_NAME or not name.isprintable():
            raise CheckpointError(f"the name {shorten(name)} of a weight is no plain name")
        if isinstance(value, tuple) and len(value) == 2:  # Paddle: (name in the program, array)
            value = value[1]
        if isinstance(value, Tensor):
            key = value.storage.key
            if key not in storages:
                storages[key] = load(value.storage)
            value = _view(storages[key], value)
        elif isinstance(value, PickledArray):
            value = value.array
        if not isinstance(value, np.ndarray):
            continue
        limit -= value.nbytes
        if limit < 0:
            raise CheckpointError(
                f"its arrays together are more than {MAX_RATIO} times as large as the file"
            )
        name = name.removeprefix(WRAPPER_PREFIX)
        if name in arrays:
            raise CheckpointError(
                f"two weights are named {shorten(name)}, with and without {WRAPPER_PREFIX!r}"
            )
        arrays[name] = np.asarray(value, order="C")  # a copy where they lie apart
    return arrays
