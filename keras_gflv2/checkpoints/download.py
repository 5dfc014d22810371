"""A URL in, a whole file on disk out, or an error that says what to do."""

import hashlib
import http.client
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import keras

from keras_gflv2.checkpoints.errors import CheckpointError

TIMEOUT = 30  # seconds without a byte
ATTEMPTS = 3  # each goes on where the last one was interrupted
BLOCK = 1 << 20
MEGABYTE = 1e6
# Servers of some organizations are reached through a mirror only.
MIRROR_VARIABLE = "KERAS_GFLV2_MIRROR"
MAX_REASON = 300  # characters of a server's own words in a message
SCHEMES = ("http", "https")
# What identifies a version of a file on its server, as it stands in a header.
VALIDATOR = re.compile(r"[\x20-\x7e]{1,256}")


class DownloadError(OSError):
    """A file could not be had from its URL."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects that stay with HTTP, and with encryption where there was one."""

    def redirect_request(self, request, file, code, message, headers, url):
        old, new = (urllib.parse.urlsplit(u).scheme for u in (request.full_url, url))
        if new not in SCHEMES or (old, new) == ("https", "http"):
            raise urllib.error.HTTPError(
                request.full_url,
                code,
                f"with a redirect from {old}: to {new}:, which is not followed",
                headers,
                file,
            )
        return super().redirect_request(request, file, code, message, headers, url)


_opener = urllib.request.build_opener(_Redirects)


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
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise DownloadError(f"{url} is not an http: or https: address.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    problem = None
    for _ in range(ATTEMPTS):
        try:
            _transfer(url, partial)
            break
        except urllib.error.HTTPError as error:
            error.close()
            raise DownloadError(f"{url} answers {error.code} {error.reason}.") from None
        except (OSError, http.client.HTTPException) as error:
            problem = error
    else:
        raise DownloadError(
            f"{url} cannot be had: {str(problem)[:MAX_REASON]}. What came so far is kept."
        ) from problem
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
    have = partial.stat().st_size if partial.is_file() else 0
    validator, known_total = _read_validator(partial)
    resuming = bool(have and validator)
    if resuming:
        # The server sends the rest only if the file is still the same one.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        response = _opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if not (resuming and error.code == 416):
            raise
        _, total = _content_range(error.headers)
        error.close()
        if total == have:
            return  # The process was killed between the last byte and the renaming.
        _restart(partial, f"it has {total} bytes, of which {have} are here")
    with response:
        continued = response.status == 206
        start = have if continued else 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if continued:
            first, stated = _content_range(response.headers)
            totals = {n for n in (total, stated, known_total) if n is not None}
            if not resuming or first not in (None, have) or len(totals) > 1:
                _restart(partial, "the server continues it at another place")
            total = next(iter(totals), None)
        _write_validator(partial, response.headers, total)
        name = partial.name.removesuffix(".part")
        print(f"Downloading {name}" + (f" from {start / MEGABYTE:.0f} MB on" if start else ""))
        progress = keras.utils.Progbar(total and round(total / MEGABYTE, 1), unit_name="MB")
        with partial.open("ab" if continued else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                progress.update(round(file.tell() / MEGABYTE, 1))
            size = file.tell()
    if total is not None and size > total:
        _restart(partial, f"{size} bytes came instead of {total}")
    if total is not None and size != total:
        raise OSError(f"the connection ended after {size} of {total} bytes")


def _restart(partial, reason):
    """Gives up what is there of a file; the next attempt begins anew."""
    partial.unlink(missing_ok=True)
    _validator_path(partial).unlink(missing_ok=True)
    raise OSError(f"{reason}; it is fetched anew")


def _content_range(headers):
    """First byte and total of a header such as "bytes 5-9/10" or "bytes */10", None if unknown."""
    value = headers.get("Content-Range")
    if value is None:
        return None, None
    found = re.fullmatch(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(?:(\d{1,18})|\*)", value.strip())
    if not found:
        return -1, None  # no place at all
    return tuple(n and int(n) for n in found.groups())


def _read_validator(partial):
    """Validator and total of a file that is there in part, None where they are not known."""
    try:
        text = _validator_path(partial).read_bytes()[:1000].decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None, None
    validator, _, total = text.partition("\n")
    if not VALIDATOR.fullmatch(validator) or not re.fullmatch(r"\d{0,18}", total):
        return None, None  # It would end up in a header.
    return validator, int(total) if total else None


def _write_validator(partial, headers, total):
    path, tag = _validator_path(partial), headers.get("ETag", "")
    # Weak ones do not promise the same bytes.
    validator = headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    if VALIDATOR.fullmatch(validator):
        path.write_text(f"{validator}\n{'' if total is None else total}")
    else:
        path.unlink(missing_ok=True)


def _validator_path(partial):
    return partial.with_name(f"{partial.name}.validator")


def sha256(path):
    """Hexadecimal SHA-256 of a file."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    return hashed.hexdigest()


def _check(path, url, digest):
    """Raises CheckpointError if a file is not what its URL should give."""
    with path.open("rb") as file:
        start = file.read(512)
    if start.lstrip()[:1] == b"<":
        raise CheckpointError(
            f"{url} gave a web page instead of weights: the server may have moved the file, or "
            "limits downloads for a while."
        )
    found = sha256(path) if digest else ""
    if not found.startswith(digest or ""):
        raise CheckpointError(
            f"{url} gave a file whose SHA-256 begins with {found[: len(digest)]} "
            f"instead of {digest}: damaged, or another file."
        )
