"""Weight files of PyTorch and PaddlePaddle in, numpy arrays by name out; nothing of a file runs."""

import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np

from keras_gflv2.checkpoints import pickles
from keras_gflv2.checkpoints.pickles import CheckpointError, PickledArray, Tensor

# The first pickle of PyTorch's format before 1.6 is this number.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Under which the weights lie in a file that holds more; averaged ones first, as they are scored.
WEIGHTS_KEYS = ("ema_state_dict", "state_dict", "model", "model_state_dict")
# Names that a wrapper for several devices puts before all others.
WRAPPER_PREFIX = "module."


def read_checkpoint(path):
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
            content = _read(_BoundedFile(file))
        arrays = _arrays(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}.") from None
    except Exception as error:
        # Whatever a damaged file leads to, from a wrong index to a wrong checksum.
        raise CheckpointError(
            f"{path} is damaged or cut off: {type(error).__name__}: {error}."
        ) from error
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
    content = pickles.read(file)
    if content == LEGACY_MAGIC:
        return _read_legacy(file)
    return content


# === PyTorch since 1.6: a zip archive of a pickle and one file a storage ===


def _read_zip(file):
    archive = zipfile.ZipFile(file)
    for entry in archive.infolist():
        # PyTorch never compresses, and no entry is larger than the file: no zip bombs.
        if entry.compress_type != zipfile.ZIP_STORED and not entry.filename.endswith(".npy"):
            raise CheckpointError(f"its part {entry.filename} is compressed")
    names = archive.namelist()
    if names and all(name.endswith(".npy") for name in names):
        return dict(np.load(file, allow_pickle=False))
    wrong = archive.testzip()
    if wrong:
        raise CheckpointError(f"the checksum of its part {wrong} is wrong")
    found = [name for name in names if name.endswith("/data.pkl") or name == "data.pkl"]
    if not found:
        raise CheckpointError("it is a zip file, but not one of torch.save")
    folder = found[0].removesuffix("data.pkl")
    byte_order = "little"
    if f"{folder}byteorder" in names:
        byte_order = archive.read(f"{folder}byteorder").decode()
    content = pickles.read(io.BytesIO(archive.read(found[0])))

    def load(storage):
        return _numbers(archive.read(f"{folder}data/{storage.key}"), storage.dtype, byte_order)

    return _resolve(content, load)


# === PyTorch before 1.6: pickles, then the storages one after the other ===


def _read_legacy(file):
    if pickles.read(file) != LEGACY_PROTOCOL:
        raise CheckpointError("it is of an unknown version of PyTorch's legacy format")
    system = pickles.read(file)
    byte_order = "little" if system.get("little_endian", True) else "big"
    content = pickles.read(file)
    keys = pickles.read(file)
    types = {}
    for value in _values(content):
        if isinstance(value, Tensor):
            types[value.storage.key] = value.storage
    numbers = {}
    for key in keys:
        if key not in types:
            raise CheckpointError(f"no tensor uses the storage {key!r}")
        storage = types[key]
        count = int.from_bytes(_exactly(file, 8), "little")
        if count != storage.count:
            raise CheckpointError(f"the storage {key!r} has {count} numbers, not {storage.count}")
        size = count * _item_size(storage.dtype)
        numbers[key] = _numbers(_exactly(file, size), storage.dtype, byte_order)
    if file.read(1):
        raise CheckpointError("something follows after its end")
    return _resolve(content, lambda storage: numbers[storage.key])


def _exactly(file, size):
    data = file.read(size)
    if len(data) != size:
        raise CheckpointError("it is cut off")
    return data


# === Tensors ===


def _item_size(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _numbers(data, dtype, byte_order):
    """The numbers of a storage, (count,), in this machine's byte order."""
    order = "<" if byte_order == "little" else ">"
    if dtype == "bfloat16":  # the upper half of a float32
        halves = np.frombuffer(data, f"{order}u2").astype("uint32")
        return (halves << 16).view("float32")
    stored = np.frombuffer(data, np.dtype(dtype).newbyteorder(order))
    return stored.astype(np.dtype(dtype), copy=False)


def _resolve(content, load):
    """Replaces the tensors of a checkpoint's dictionaries by arrays; each storage is read once."""
    cache = {}

    def array(tensor):
        storage = tensor.storage
        if storage.key not in cache:
            cache[storage.key] = load(storage)
        return _view(cache[storage.key], tensor)

    weights = _weights(content)
    return {k: array(v) if isinstance(v, Tensor) else v for k, v in weights.items()}


def _view(numbers, tensor):
    """The elements of a tensor out of its storage, copied if they do not lie in a row."""
    shape, strides, offset = tensor.shape, tensor.strides, tensor.offset
    size = math.prod(shape)
    if len(shape) != len(strides) or min((*shape, *strides, offset), default=0) < 0:
        raise CheckpointError(f"a tensor has the shape {shape} and the strides {strides}")
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) if size else offset
    if size > len(numbers) or last >= len(numbers) + (size == 0):
        raise CheckpointError(f"a tensor of the shape {shape} is larger than its storage")
    item = numbers.itemsize
    view = np.lib.stride_tricks.as_strided(
        numbers[offset:], shape, [stride * item for stride in strides], writeable=False
    )
    return np.ascontiguousarray(view).reshape(shape)


# === Finding the weights among what a training saves ===


def _weights(content):
    """The dictionary of weights in a checkpoint."""
    if not isinstance(content, dict):
        raise CheckpointError("it holds no dictionary of weights")
    for key in WEIGHTS_KEYS:
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def _values(content):
    """Values of all dictionaries, lists and tuples in a checkpoint, each looked at once."""
    seen, waiting = set(), [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | tuple):
            if id(value) not in seen:
                seen.add(id(value))
                waiting.extend(value.values() if isinstance(value, dict) else value)
        else:
            yield value


def _arrays(content):
    """{name: array} of the weights, without what is no array."""
    arrays = {}
    for name, value in _weights(content).items():
        if isinstance(value, tuple) and len(value) == 2:  # Paddle: (name in the program, array)
            value = value[1]
        if isinstance(value, PickledArray):
            value = value.array
        if isinstance(name, str) and isinstance(value, np.ndarray):
            arrays[name.removeprefix(WRAPPER_PREFIX)] = value
    return arrays
