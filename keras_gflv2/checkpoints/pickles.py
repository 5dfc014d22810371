"""Pickles read without running anything: a stack machine that knows data, and names of classes.

Pickle is a language whose programs call functions. `PickleReader` interprets it itself and calls
nothing that a file names: a call is looked up in `pickle_values.CALLS`, functions that make plain
data. A name outside that list and outside `INERT_MODULES` is refused; what those modules hold
(settings of a training, say) becomes an `Inert` that nobody looks at.

Reading costs time and memory in proportion to the file: instructions are counted, what a call
copies is counted, and no value of a file is hashed, compared or printed unless it is text.
"""

import pickletools

from keras_gflv2.checkpoints.errors import CheckpointError, shorten
from keras_gflv2.checkpoints.pickle_values import (
    STORAGE_DTYPES,
    DType,
    Inert,
    Name,
    PickledArray,
    Storage,
    set_item,
)

# Of all pickles of a file. Checkpoints with an optimizer and averages have some 100,000.
MAX_INSTRUCTIONS = 1_000_000
# Bytes that calls copy for a byte of the file: text is encoded, then becomes an array.
MAX_COPIES = 4
MARK = object()


class PickleReader:
    """Reads the pickles of one file, which share its limits.

    Args:
        size: bytes of the file.

    Attributes:
        storages: {key: `Storage`} of all tensors so far.
    """

    def __init__(self, size):
        self.instructions = 0
        # Each text and list of a real file is an argument once.
        self.copies_left = MAX_COPIES * size
        self.storages = {}
        self.stack, self.memo = [], {}

    def read(self, file):
        """Reads one pickle from a binary file and leaves the file behind it.

        Args:
            file: a binary file; pickles of protocol 0 to 5.

        Returns:
            Dictionaries, lists, tuples, numbers and text, with `PickledArray`, `Tensor` and
            `Inert`.

        Raises:
            CheckpointError: the pickle names something that no checkpoint needs, is damaged, or
                costs more than a file of its size may.
        """
        self.stack, self.memo = [], {}
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return self.stack.pop()
            self.instructions += 1
            if self.instructions > MAX_INSTRUCTIONS:
                raise CheckpointError(
                    f"its pickles have more than {MAX_INSTRUCTIONS} instructions, as no "
                    "checkpoint has"
                )
            self.step(opcode.name, argument)
        raise CheckpointError("a pickle has no end")

    def spend(self, values):
        """Counts what handling `values` may copy."""
        if isinstance(values, list | tuple):
            self.copies_left -= sum(
                len(v) for v in values if isinstance(v, str | bytes | bytearray | list | tuple)
            )
        if self.copies_left < 0:
            raise CheckpointError("its pickles copy the same data again and again")

    def step(self, name, argument):
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _PUTS:
            index = len(self.memo) if argument is None else argument
            if not 0 <= index <= MAX_INSTRUCTIONS:
                raise CheckpointError("a pickle is out of order")
            self.memo[index] = self.stack[-1]
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
        if not isinstance(target, dict) or len(items) % 2:
            raise CheckpointError("a pickle is out of order")
        for key, value in zip(items[::2], items[1::2]):
            set_item(target, key, value)

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
        if isinstance(target, Inert):
            return
        if not isinstance(target, list):
            raise CheckpointError("a pickle is out of order")
        target.extend(items)

    def _global(self, argument):
        self.stack.append(Name(*argument.split(" ", 1)))

    def _stack_global(self, _):
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(module, name))

    def _inst(self, argument):
        arguments = self.pop_to_mark()
        self.stack.append(self._call(Name(*argument.split(" ", 1)), arguments))

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
        if not isinstance(function, Name):
            raise CheckpointError("a pickle calls what is no function")
        self.spend(arguments)
        return function(arguments)

    def _build(self, _):
        state, target = self.stack.pop(), self.stack[-1]
        # Attributes of other objects (`_metadata` of a state dict) are of no use here.
        if isinstance(target, PickledArray | DType):
            if not isinstance(state, tuple):
                raise CheckpointError("an array has no tuple as its state")
            self.spend(state)
            target.set_state(state)

    def _binpersid(self, _):
        reference = self.stack.pop()
        if not (
            isinstance(reference, tuple)
            and len(reference) > 4
            and isinstance(reference[0], str)
            and reference[0] == "storage"
            and isinstance(reference[1], Name)
        ):
            raise CheckpointError("a tensor refers to an unknown kind of storage")
        kind, key, count = reference[1].name, reference[2], reference[4]
        if kind not in STORAGE_DTYPES:
            raise CheckpointError(f"tensors of {shorten(f'torch.{kind}')} are not read")
        if len(reference) > 5 and reference[5] is not None:
            raise CheckpointError("a storage is a view of another one")
        storage = Storage(STORAGE_DTYPES[kind], key, count)
        first = self.storages.setdefault(key, storage)
        if (first.dtype, first.count) != (storage.dtype, storage.count):
            raise CheckpointError(f"tensors disagree about the storage {shorten(key)}")
        self.stack.append(first)

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
