"""Pickles read without running anything: a stack machine that knows data, and names of classes.

Pickle is a language whose programs call functions. `read` interprets it itself and calls nothing
that a file names: a call is looked up in `CALLS`, functions of this module that make plain data. A
name outside that list and outside `INERT_MODULES` is refused; what those modules hold (settings of
a training, say) becomes an `Inert` that nobody looks at.
"""

import pickletools

import numpy as np

# Frameworks and plain types whose objects lie beside the weights in real checkpoints.
INERT_MODULES = (
    "argparse", "collections", "copy_reg", "copyreg", "datetime", "easydict", "mmcv", "mmdet",
    "mmengine", "numpy", "paddle", "pathlib", "ppdet", "torch", "yacs",
)  # fmt: skip
INERT_BUILTINS = {"bytearray", "complex", "dict", "frozenset", "getattr", "int", "float", "list",
                  "object", "range", "set", "slice", "str", "bool", "tuple"}  # fmt: skip
ARRAY_KINDS = "biuf"
MARK = object()


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be read, or not the one that was expected."""


class Inert:
    """An object of which only the name is known."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"<not loaded: {self.name}>"


class Storage:
    """A reference to the numbers of PyTorch tensors, which lie outside the pickle.

    Attributes:
        dtype: name of numpy's type, or "bfloat16".
        key: under which the file has them.
        count: how many there are.
    """

    def __init__(self, dtype, key, count):
        self.dtype, self.key, self.count = dtype, key, count


class Tensor:
    """A view of a storage: what `torch._utils._rebuild_tensor_v2` is called with."""

    def __init__(self, storage, offset, shape, strides):
        self.storage = storage
        self.offset = int(offset)
        self.shape = tuple(int(n) for n in shape)
        self.strides = tuple(int(n) for n in strides)


class PickledArray:
    """A numpy array, which a pickle makes empty and fills later."""

    def __init__(self):
        self.array = None

    def set_state(self, state):
        _, shape, dtype, fortran_order, data = state
        shape = tuple(int(n) for n in shape)
        if isinstance(data, str):  # bytes of Python 2
            data = data.encode("latin1")
        if not isinstance(dtype, DType) or not isinstance(data, bytes):
            raise CheckpointError("an array holds objects, not numbers")
        if min(shape, default=0) < 0:
            raise CheckpointError(f"an array has the shape {shape}")
        array = np.frombuffer(data, dtype.numpy)
        # reshape checks the count: a header that claims more than there is allocates nothing.
        self.array = array.reshape(shape, order="F" if fortran_order else "C")


class DType:
    """A numpy type of numbers; its state gives the byte order."""

    def __init__(self, code, *flags):
        if not isinstance(code, str) or len(code) > 4:
            raise CheckpointError(f"{code!r} is no type of numbers")
        self.numpy = np.dtype(code)
        if self.numpy.kind not in ARRAY_KINDS:
            raise CheckpointError(f"arrays of type {code!r} are not read")

    def set_state(self, state):
        if state[1] in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(state[1])


def _frombuffer(data, dtype, shape, order):
    array = PickledArray()
    array.set_state((1, shape, dtype, order == "F", bytes(data)))
    return array


def _scalar(dtype, data):
    if isinstance(data, str):
        data = data.encode("latin1")
    return np.frombuffer(data, dtype.numpy, count=1)[0]


def _encode(text, encoding):
    if encoding not in ("latin1", "latin-1", "utf-8"):
        raise CheckpointError(f"unknown encoding {encoding!r}")
    return text.encode(encoding)


# What a checkpoint's calls mean here: (module, name) -> a function of this module.
_NUMPY_CALLS = {
    "_reconstruct": lambda *arguments: PickledArray(),
    "scalar": _scalar,
}
CALLS = {
    ("collections", "OrderedDict"): lambda items=(): dict(items),
    ("_codecs", "encode"): _encode,
    ("builtins", "tuple"): lambda items=(): tuple(items),
    ("__builtin__", "tuple"): lambda items=(): tuple(items),
    ("__builtin__", "bytes"): lambda: b"",  # Protocol 2 has no empty bytes.
    ("numpy", "dtype"): DType,
    ("torch", "Size"): lambda items=(): tuple(items),
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


class _Name:
    """A class or function that a file names."""

    def __init__(self, module, name):
        self.module, self.name = module, name
        known = (module, name) in CALLS
        builtin = module in ("builtins", "__builtin__") and name in INERT_BUILTINS
        if not (known or builtin or module.split(".")[0] in INERT_MODULES):
            raise CheckpointError(
                f"it names {module}.{name}, which is no part of a checkpoint: whatever it is meant "
                "to do, it was not run. Do not open this file with other tools"
            )

    def __call__(self, arguments):
        call = CALLS.get((self.module, self.name))
        if call is None:
            return Inert(f"{self.module}.{self.name}")
        return call(*arguments)


class _Machine:
    """Interprets the instructions of one pickle."""

    def __init__(self):
        self.stack = []
        self.memo = {}

    def run(self, file):
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.step(opcode.name, argument)
        raise CheckpointError("a pickle has no end")

    def step(self, name, argument):
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _PUTS:
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        elif name not in _IGNORED:
            handler = getattr(self, f"_{name.lower()}", None)
            if handler is None:
                raise CheckpointError(f"the pickle instruction {name} is not used by checkpoints")
            handler(argument)

    def pop_to_mark(self):
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is MARK:
                items = self.stack[position + 1 :]
                del self.stack[position:]
                return items
        raise CheckpointError("a pickle is out of order")

    def _pop(self, _):
        self.stack.pop()

    def _pop_mark(self, _):
        self.pop_to_mark()

    def _dup(self, _):
        self.stack.append(self.stack[-1])

    def _list(self, _):
        self.stack.append(self.pop_to_mark())

    def _tuple(self, _):
        self.stack.append(tuple(self.pop_to_mark()))

    def _tuple1(self, _):
        self._fixed_tuple(1)

    def _tuple2(self, _):
        self._fixed_tuple(2)

    def _tuple3(self, _):
        self._fixed_tuple(3)

    def _fixed_tuple(self, length):
        items = tuple(self.stack[-length:])
        del self.stack[-length:]
        self.stack.append(items)

    def _dict(self, _):
        items = self.pop_to_mark()
        self.stack.append({})
        self._set(items)

    def _setitem(self, _):
        items = self.stack[-2:]
        del self.stack[-2:]
        self._set(items)

    def _setitems(self, _):
        self._set(self.pop_to_mark())

    def _set(self, items):
        target = self.stack[-1]
        if isinstance(target, Inert):
            return
        for key, value in zip(items[::2], items[1::2]):
            # Others, nested tuples for example, could make hashing recurse without end.
            if not isinstance(key, str | int | float | bytes | None):
                key = repr(type(key))
            target[key] = value

    def _append(self, _):
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _):
        self._extend(self.pop_to_mark())

    def _additems(self, _):
        self.pop_to_mark()

    def _frozenset(self, _):
        self.pop_to_mark()
        self.stack.append(Inert("frozenset"))

    def _extend(self, items):
        target = self.stack[-1]
        if not isinstance(target, Inert):
            target.extend(items)

    def _global(self, argument):
        self.stack.append(_Name(*argument.split(" ", 1)))

    def _stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_Name(str(module), str(name)))

    def _inst(self, argument):
        arguments = self.pop_to_mark()
        self.stack.append(_Name(*argument.split(" ", 1))(arguments))

    def _obj(self, _):
        function, *arguments = self.pop_to_mark()
        self.stack.append(self._call(function, arguments))

    def _reduce(self, _):
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self._call(function, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _):
        self.stack.pop()  # keyword arguments
        self._reduce(None)

    def _call(self, function, arguments):
        if isinstance(function, Inert):
            return Inert(function.name)
        if not isinstance(function, _Name):
            raise CheckpointError("a pickle calls what is no function")
        return function(arguments)

    def _build(self, _):
        state, target = self.stack.pop(), self.stack[-1]
        # Attributes of other objects (`_metadata` of a state dict) are of no use here.
        if isinstance(target, PickledArray | DType):
            target.set_state(state)

    def _binpersid(self, _):
        reference = self.stack.pop()
        if reference[0] != "storage" or not isinstance(reference[1], _Name):
            raise CheckpointError("a tensor refers to an unknown kind of storage")
        kind, key, count = reference[1].name, reference[2], reference[4]
        if kind not in STORAGE_DTYPES:
            raise CheckpointError(f"tensors of torch.{kind} are not read")
        if len(reference) > 5 and reference[5] is not None:
            raise CheckpointError("a storage is a view of another one")
        self.stack.append(Storage(STORAGE_DTYPES[kind], str(key), int(count)))

    def _mark(self, _):
        self.stack.append(MARK)


_LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Inert("set"),
}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_IGNORED = {"PROTO", "FRAME"}


def read(file):
    """Reads one pickle from a binary file and leaves the file behind it.

    Args:
        file: a binary file; pickles of protocol 0 to 5.

    Returns:
        Dictionaries, lists, tuples, numbers and text, with `PickledArray`, `Tensor` and `Inert`.

    Raises:
        CheckpointError: the pickle names something that no checkpoint needs, or is damaged.
    """
    return _Machine().run(file)
