"""Files and folders that are there whole or not at all, whatever ends the process."""

import contextlib
import os
import shutil
from pathlib import Path


@contextlib.contextmanager
def written_whole(path):
    """Gives a path to write to, whose file takes the place of `path` when the block ends well.

    Until then it is the name with a dot before it, in the same folder; an error removes it.
    """
    path = Path(path)
    temporary = path.with_name("." + path.name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def folder_written_whole(path):
    """As `written_whole`, for a folder.

    A process that is killed while the two folders change places leaves none at `path`: there is
    no half of one, and writing it again makes it whole.
    """
    path = Path(path)
    temporary, old = path.with_name("." + path.name), path.with_name("." + path.name + ".old")
    for leftover in (temporary, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        yield temporary
        if path.exists():
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)
