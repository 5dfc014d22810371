"""Which errors are mistakes of the user, and what to say about them."""

import builtins
import http.client
import json
import pickle
import re
import struct
import tarfile
import zipfile
import zlib

# FileNotFoundError is an OSError; a FloatingPointError is a training that went astray.
USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)
# What the standard library raises for files and answers that are not what they should be.
FORMAT_ERRORS = (
    http.client.HTTPException,
    pickle.UnpicklingError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    json.JSONDecodeError,
    UnicodeError,
)
# Modules that read what the user gave: even a KeyError of theirs is about that.
READERS = ("h5py", "http", "json", "keras.src.saving", "PIL", "urllib", "xml", "zipfile")
BUGS = (TypeError, AttributeError, NameError, AssertionError)
# Of TensorFlow's errors those about files and values; the others are bugs.
TENSORFLOW_ERRORS = (
    *("NotFoundError", "PermissionDeniedError", "DataLossError", "AlreadyExistsError"),
    *("InvalidArgumentError", "FailedPreconditionError", "UnavailableError"),
)
OUT_OF_MEMORY = "there is not enough memory. Use a smaller --batch-size or --image-size"


def user_message(error):
    """What to tell the user about an error, in one line; None for one that is a bug of ours.

    tf.data wraps what our readers raise (a damaged picture) into its own errors: the message of
    the original is found in theirs.
    """
    message = _message(error)
    return message and " ".join(message.split())


def _message(error):
    text = str(error)
    if _is_out_of_memory(error):
        detail = text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
        return f"{OUT_OF_MEMORY} ({detail})"
    if type(error).__module__.startswith("tensorflow"):
        return _tensorflow_message(error)
    if isinstance(error, USER_ERRORS):
        return text or type(error).__name__
    if isinstance(error, FORMAT_ERRORS) or _comes_from_reader(error):
        return (
            f"a file or an answer is damaged, or not of its kind ({type(error).__name__}: {text})"
        )
    return None


def _is_out_of_memory(error):
    name = type(error).__name__
    return (
        isinstance(error, MemoryError)
        or name in ("ResourceExhaustedError", "OutOfMemoryError")
        or (name in ("XlaRuntimeError", "JaxRuntimeError") and "RESOURCE_EXHAUSTED" in str(error))
    )


def _tensorflow_message(error):
    """The message of a Python function's error inside of tf.data, else TensorFlow's own."""
    found = re.search(r"(?:^|\s)(?:\w+\.)*(\w*(?:Error|Exception)): (.+)", str(error))
    if found:
        kind = getattr(builtins, found.group(1), None)
        is_mistake = kind is None or issubclass(kind, USER_ERRORS)
        return found.group(2) if is_mistake else None
    return str(error) if type(error).__name__ in TENSORFLOW_ERRORS else None


def _comes_from_reader(error):
    """Whether an error was raised within a module that reads files and answers."""
    trace = error.__traceback__
    if trace is None or isinstance(error, BUGS):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    module = str(trace.tb_frame.f_globals.get("__name__"))
    return any(module == reader or module.startswith(reader + ".") for reader in READERS)
