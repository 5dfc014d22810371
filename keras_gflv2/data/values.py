"""Numbers, flags and ids of annotation files, in whatever type an exporter wrote them.

In every function `where` names the file and the entry for the error message, such as
"a.json: annotation 7 (image 42, cat.jpg)", and `key` the value within it.
"""

import math
import re
import reprlib

FLAG_WORDS = {
    **dict.fromkeys(("true", "t", "yes", "y"), True),
    **dict.fromkeys(("", "false", "f", "no", "n", "none", "unspecified"), False),
}
WHOLE_NUMBER = re.compile(r"([+-]?\d{1,18})(\.0*)?", re.ASCII)


def read_number(value, key, where, finite=True):
    """Returns a number, or a string that holds one, as a float.

    Raises:
        ValueError: it is neither, or not finite where `finite` is asked for.
    """
    number = _to_float(value)
    if number is None or (finite and not math.isfinite(number)):
        kind = "a finite number" if finite and number is not None else "a number"
        raise ValueError(f"{where}: {key} must be {kind}. Received: {reprlib.repr(value)}")
    return number


def read_flag(value, key, where):
    """Returns a flag as a bool; None and "" mean that it is not set.

    Raises:
        ValueError: it is not a bool, 0 or 1, or a string of one of them.
    """
    flag = value
    if isinstance(value, str):
        word = value.strip().lower()
        flag = FLAG_WORDS.get(word, _to_float(word))
    elif value is None:
        flag = False
    if not isinstance(flag, (bool, int, float)) or flag not in (0, 1):
        raise ValueError(
            f"{where}: {key} must be 0 or 1, true or false. Received: {reprlib.repr(value)}"
        )
    return bool(flag)


def read_size(height, width, where):
    """Returns `(height, width)` as ints, or None where a side is missing or not positive."""
    if height in (None, "") or width in (None, ""):
        return None
    sides = [read_number(height, "height", where), read_number(width, "width", where)]
    return tuple(int(side) for side in sides) if min(sides) >= 1 else None


def read_id(value, key, where):
    """Returns an id as it is: an int, a finite float or a string that is not empty.

    Raises:
        ValueError: it is something else.
    """
    valid = isinstance(value, (int, float, str)) and not isinstance(value, bool)
    if not valid or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(
            f"{where}: {key} must be a number or a string. Received: {reprlib.repr(value)}"
        )
    return value


def id_order(value):
    """Sorting key of ids of mixed types: numbers and numeric strings by value, then the others."""
    number = _whole_number(value)
    if number is None and isinstance(value, float):
        number = value
    return (1, 0, value) if number is None else (0, number, "")


class IdTable:
    """Finds the position of an id, also where another table writes it as another type.

    An id is found as it is written, else by the whole number that it stands for: 7, 7.0, "7" and
    "7.0" are one id.

    Args:
        ids: list of ids as `read_id` returns them.
        kind: what they are ids of, for messages.
        source: name of the file for messages.

    Raises:
        ValueError: an id occurs twice.
    """

    def __init__(self, ids, kind, source):
        self._positions = {}
        self._numbers = {}  # whole number -> the ids that stand for it
        self._kind, self._source = kind, source
        for position, value in enumerate(ids):
            if value in self._positions:
                raise ValueError(f"{source}: the {kind} id {value!r} occurs twice.")
            self._positions[value] = position
            number = _whole_number(value)
            if number is not None:
                same = self._numbers.setdefault(number, [])
                same.append(value)
                # "007" and "7" may be two names; 7 and "7" cannot.
                if len(same) > 1 and not all(isinstance(other, str) for other in same):
                    raise ValueError(
                        f"{source}: the {kind} ids {same[0]!r} and {value!r} are the same number."
                    )

    def find(self, value):
        """Returns the position of an id, None if the table does not have it."""
        if value in self._positions:
            return self._positions[value]
        same = self._numbers.get(_whole_number(value), [])
        if len(same) > 1:
            raise ValueError(
                f"{self._source}: the {self._kind} id {value!r} may stand for any of {same}. "
                "Write it in the same way everywhere."
            )
        return self._positions[same[0]] if same else None


def batch_ids(image_ids):
    """Returns the ints by which batches name their images.

    They are the ids themselves where all are ints of 64 bits, else the running index.
    """
    ints = all(
        isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        for value in image_ids
    )
    return list(image_ids) if ints else list(range(len(image_ids)))


def _to_float(value):
    """The number that a value is or holds, None if it is none."""
    if type(value) is float:  # Most are, of millions.
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    # Python reads "1_0" as 10; no other program does.
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _whole_number(value):
    if isinstance(value, str):
        match = WHOLE_NUMBER.fullmatch(value.strip())
        return int(match[1]) if match else None
    return int(value) if isinstance(value, int) or value.is_integer() else None
