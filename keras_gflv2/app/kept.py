"""What was computed for visitors, for a while: the last of it, within a number of bytes."""

import collections
import secrets

MAX_BYTES = 2**28


class Kept:
    """Values under random names that nobody can guess, so that visitors see only their own.

    Args:
        max_bytes: of all values together; beyond, those go that were not asked for the longest. The
            last one stays whatever its size is.
    """

    def __init__(self, max_bytes=MAX_BYTES):
        self._max_bytes, self._bytes = max_bytes, 0
        self._values = collections.OrderedDict()

    def add(self, value):
        """Keeps a value, which has `nbytes`; returns its name."""
        name = secrets.token_urlsafe(16)
        self._values[name] = value
        self._bytes += value.nbytes
        while self._bytes > self._max_bytes and len(self._values) > 1:
            self._bytes -= self._values.popitem(last=False)[1].nbytes
        return name

    def get(self, name):
        """The value of a name, or None if it has gone or never was."""
        if name in self._values:
            self._values.move_to_end(name)
        return self._values.get(name)
