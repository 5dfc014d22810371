"""The error of files that are not what they should be, and text of such files in messages."""

MAX_SHOWN = 120


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be read, or not the one that was expected."""


def shorten(text):
    """Text out of a file as a message shows it: quoted, escaped and of bounded length."""
    if not isinstance(text, str):
        return f"<{type(text).__name__}>"
    return repr(text) if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]!r}..."


def describe(error):
    """An exception in one short line, whatever a file put into it."""
    text = error.args[0] if error.args and isinstance(error.args[0], str) else ""
    text = text if len(text) <= 2 * MAX_SHOWN else f"{text[: 2 * MAX_SHOWN]}..."
    return f"{type(error).__name__}: {text}".removesuffix(": ")
