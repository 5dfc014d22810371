"""What the pickles of checkpoints hold: names, tensors, arrays, and the calls that make them."""

import numpy as np

from keras_gflv2.checkpoints.errors import CheckpointError, shorten

# Frameworks and plain types whose objects lie beside the weights in real checkpoints.
INERT_MODULES = (
    "argparse", "collections", "copy_reg", "copyreg", "datetime", "easydict", "mmcv", "mmdet",
    "mmengine", "numpy", "paddle", "pathlib", "ppdet", "torch", "yacs",
)  # fmt: skip
INERT_BUILTINS = {"bytearray", "complex", "dict", "frozenset", "getattr", "int", "float", "list",
                  "object", "range", "set", "slice", "str", "bool", "tuple"}  # fmt: skip
ARRAY_KINDS = "biuf"
BYTE_ORDERS = ("<", ">", "|", "=")
MAX_DIMENSIONS = 32
MAX_DIMENSION = 2**40
MAX_NAME = 200
MAX_ARGUMENTS = 16


class Inert:
    """An object of which only the name is known."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"<not loaded: {self.name}>"


class OtherKey:
    """Stands for a dictionary's key that is no text. It hashes by identity.

    The hash of nested tuples has no bounded cost, and that of numbers can be made to collide.
    """

    def __init__(self, kind):
        self.kind = kind


class Storage:
    """A reference to the numbers of PyTorch tensors, which lie outside the pickle.

    Attributes:
        dtype: name of numpy's type, or "bfloat16".
        key: under which the file has them.
        count: how many there are.
    """

    def __init__(self, dtype, key, count):
        if not isinstance(key, str):
            raise CheckpointError(f"a storage is named by a {type(key).__name__}, not by text")
        self.dtype, self.key, self.count = dtype, key, dimension(count)


class Tensor:
    """A view of a storage: what `torch._utils._rebuild_tensor_v2` is called with."""

    def __init__(self, storage, offset, shape, strides):
        if not isinstance(storage, Storage):
            raise CheckpointError("a tensor has no storage")
        self.storage = storage
        self.offset = dimension(offset)
        self.shape = dimensions(shape)
        self.strides = dimensions(strides)


class PickledArray:
    """A numpy array, which a pickle makes empty and fills later."""

    def __init__(self):
        self.array = None

    def set_state(self, state):
        _, shape, dtype, fortran_order, data = state
        shape = dimensions(shape)
        if isinstance(data, str):  # bytes of Python 2
            data = data.encode("latin1")
        if not isinstance(dtype, DType) or not isinstance(data, bytes | bytearray):
            raise CheckpointError("an array holds objects, not numbers")
        array = np.frombuffer(data, dtype.numpy)
        # reshape checks the count: a header that claims more than there is allocates nothing.
        self.array = array.reshape(shape, order="F" if fortran_order else "C")


class DType:
    """A numpy type of numbers; its state gives the byte order."""

    def __init__(self, code, *flags):
        if not isinstance(code, str) or len(code) > 4:
            raise CheckpointError(f"{shorten(code)} is no type of numbers")
        self.numpy = np.dtype(code)
        if self.numpy.kind not in ARRAY_KINDS:
            raise CheckpointError(f"arrays of type {code!r} are not read")

    def set_state(self, state):
        order = state[1]
        if not isinstance(order, str) or order not in BYTE_ORDERS:
            raise CheckpointError(f"an array has the unknown byte order {shorten(order)}")
        if order in "<>":
            self.numpy = self.numpy.newbyteorder(order)


def dimension(value):
    """A size, stride, offset or count: a number that a file can have room for."""
    if type(value) is not int or not 0 <= value <= MAX_DIMENSION:
        raise CheckpointError("a shape, stride or count is no plain number of a possible size")
    return value


def dimensions(values):
    if not isinstance(values, list | tuple) or len(values) > MAX_DIMENSIONS:
        raise CheckpointError("a shape is no list of a few numbers")
    return tuple(dimension(value) for value in values)


def set_item(target, key, value):
    """Puts an item into a dictionary; a name that is already there is an error."""
    if type(key) is not str:
        key = OtherKey(type(key).__name__)
    elif key in target:
        raise CheckpointError(f"the name {shorten(key)} occurs twice")
    target[key] = value


def _ordered_dict(items=()):
    result = {}
    for pair in items:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise CheckpointError("an OrderedDict is made of what are no pairs")
        set_item(result, *pair)
    return result


def _frombuffer(data, dtype, shape, order):
    array = PickledArray()
    array.set_state((1, shape, dtype, order == "F", data))
    return array


def _scalar(dtype, data):
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(dtype, DType) or not isinstance(data, bytes):
        raise CheckpointError("a number of numpy is an object")
    return np.frombuffer(data, dtype.numpy, count=1)[0]


def _encode(text, encoding):
    if not isinstance(encoding, str) or encoding not in ("latin1", "latin-1", "utf-8"):
        raise CheckpointError(f"unknown encoding {shorten(encoding)}")
    return text.encode(encoding)


def _tuple(items=()):
    if not isinstance(items, list | tuple):
        raise CheckpointError("a tuple is made of what is no list")
    return tuple(items)


# What a checkpoint's calls mean here: (module, name) -> a function of this module.
_NUMPY_CALLS = {
    "_reconstruct": lambda *arguments: PickledArray(),
    "scalar": _scalar,
}
CALLS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("_codecs", "encode"): _encode,
    ("builtins", "tuple"): _tuple,
    ("__builtin__", "tuple"): _tuple,
    ("__builtin__", "bytes"): lambda: b"",  # Protocol 2 has no empty bytes.
    ("numpy", "dtype"): DType,
    ("torch", "Size"): _tuple,
    ("torch._utils", "_rebuild_tensor"): Tensor,
    ("torch._utils", "_rebuild_tensor_v2"): (
        lambda storage, offset, shape, strides, *rest: Tensor(storage, offset, shape, strides)
    ),
    ("torch._utils", "_rebuild_parameter"): lambda data, *rest: data,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    **{
        (module, name): call
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name, call in _NUMPY_CALLS.items()
    },
}
STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class Name:
    """A class or function that a file names."""

    def __init__(self, module, name):
        if not all(isinstance(part, str) and len(part) <= MAX_NAME for part in (module, name)):
            raise CheckpointError("it names a class or function by what is no name")
        self.module, self.name = module, name
        known = (module, name) in CALLS
        builtin = module in ("builtins", "__builtin__") and name in INERT_BUILTINS
        if not (known or builtin or module.split(".")[0] in INERT_MODULES):
            raise CheckpointError(
                f"it names {shorten(f'{module}.{name}')}, which is no part of a checkpoint: "
                "whatever it is meant to do, it was not run. Do not open this file with other tools"
            )

    def __call__(self, arguments):
        call = CALLS.get((self.module, self.name))
        if call is None:
            return Inert(f"{self.module}.{self.name}")
        if not isinstance(arguments, list | tuple) or len(arguments) > MAX_ARGUMENTS:
            raise CheckpointError(f"a call of {self.module}.{self.name} has no list of arguments")
        return call(*arguments)
