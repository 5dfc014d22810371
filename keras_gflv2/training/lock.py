"""One folder, one training at a time."""

import contextlib
import contextvars
import os
import socket
from pathlib import Path

import filelock

LOCK_NAME = ".lock"

# Folders that this thread has locked: the command line locks one, and then `fit` does.
_held: contextvars.ContextVar[frozenset] = contextvars.ContextVar(
    "locked_folders", default=frozenset()
)


@contextlib.contextmanager
def locked(directory):
    """Keeps every other training out of a folder, also those of other threads.

    The lock ends with the process, however that ends.

    Args:
        directory: a folder that is there.

    Raises:
        ValueError: another training has it; the message names its process.
    """
    directory = Path(directory).resolve()
    if directory in _held.get():
        yield
        return
    path = directory / LOCK_NAME
    lock = _acquire(path, directory)
    token = _held.set(_held.get() | {directory})
    try:
        yield
    finally:
        _held.reset(token)
        # Before the lock is released: who has opened the file by now sees that it is gone.
        with contextlib.suppress(OSError):
            path.unlink()
        lock.release()


def _acquire(path, directory):
    while True:
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise ValueError(
                f"{directory} is in use: {_holder(path)} trains there. Wait for its end, stop it, "
                "or choose another folder."
            ) from None
        if path.exists():
            break
        lock.release()  # of a file that its last owner has removed
    path.write_text(f"{os.getpid()} {socket.gethostname()}", encoding="utf-8")
    return lock


def _holder(path):
    """Which process has the lock, as far as it is known."""
    try:
        pid, host = path.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return "another process"
    return f"process {pid}" + (f" on {host}" if host != socket.gethostname() else "")
