"""A URL in, a whole file on disk out, or an error that says what to do."""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

import keras

from keras_gflv2.checkpoints.errors import CheckpointError

TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 3  # each goes on where the last one was interrupted
BLOCK = 1 << 20
MEGABYTE = 1e6
# Servers of some organisations are reached through a mirror only.
MIRROR_VARIABLE = "KERAS_GFLV2_MIRROR"


class DownloadError(OSError):
    """A file could not be had from its URL."""


def cache_directory():
    """Folder of downloaded and converted weights, inside Keras's own (`KERAS_HOME`)."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "models" / "keras_gflv2"


def download(url, path, digest=None):
    """Downloads a file, with a progress bar; `path` exists only once it is whole.

    An interrupted transfer is continued, by this call or a later one, where the server allows it.

    Args:
        url: address; `KERAS_GFLV2_MIRROR=https://host/folder` replaces all but the file's name.
        path: where to put the file.
        digest: first hexadecimal digits of its SHA-256, if they are known.

    Raises:
        DownloadError: the server cannot be reached or stops sending.
        CheckpointError: what it sent is not the file: a web page, or another digest.
    """
    path = Path(path)
    mirror = os.environ.get(MIRROR_VARIABLE)
    if mirror:
        url = f"{mirror.rstrip('/')}/{path.name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    problem = None
    for _ in range(ATTEMPTS):
        try:
            _transfer(url, partial)
            break
        except urllib.error.HTTPError as error:
            raise DownloadError(f"{url} answers {error.code} {error.reason}.") from error
        except (OSError, urllib.error.URLError) as error:
            problem = error
    else:
        raise DownloadError(f"{url} cannot be had: {problem}.") from problem
    try:
        _check(partial, url, digest)
    except CheckpointError:
        partial.unlink()
        _validator_path(partial).unlink(missing_ok=True)
        raise
    os.replace(partial, path)
    _validator_path(partial).unlink(missing_ok=True)


def _transfer(url, partial):
    """Fetches what is missing of a file."""
    request = urllib.request.Request(url, headers={"User-Agent": "keras-gflv2"})
    validator_path = _validator_path(partial)
    have = partial.stat().st_size if partial.is_file() else 0
    if have and validator_path.is_file():
        # The server sends the rest only if the file is still the same one.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator_path.read_text())
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        continued = response.status == 206
        start = have if continued else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator:
            validator_path.write_text(validator)
        name = partial.name.removesuffix(".part")
        print(f"Downloading {name}" + (f" from {start / MEGABYTE:.0f} MB on" if start else ""))
        progress = keras.utils.Progbar(total and round(total / MEGABYTE, 1), unit_name="MB")
        with partial.open("ab" if continued else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                progress.update(round(file.tell() / MEGABYTE, 1))
            size = file.tell()
    if total is not None and size != total:
        raise OSError(f"the connection ended after {size} of {total} bytes")


def _validator_path(partial):
    return partial.with_name(f"{partial.name}.validator")


def _check(path, url, digest):
    """Raises CheckpointError if a file is not what its URL should give."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(0)
        while block := file.read(BLOCK):
            hashed.update(block)
    if start.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{url} gave a web page instead of weights: the server may have moved the file, or "
            "limits downloads for a while."
        )
    if digest and not hashed.hexdigest().startswith(digest):
        raise CheckpointError(
            f"{url} gave a file whose SHA-256 begins with {hashed.hexdigest()[: len(digest)]} "
            f"instead of {digest}: damaged, or another file."
        )
