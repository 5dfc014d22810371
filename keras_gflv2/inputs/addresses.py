"""Images from http: and https: addresses: of limited size, in limited time, and images only."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request

MAX_BYTES = 64 << 20
TIMEOUT = 20.0  # seconds without a byte
PATIENCE = 120.0  # seconds for the whole file
BLOCK = 1 << 16
SCHEMES = ("http", "https")
# What servers call files whose kind they do not know.
UNKNOWN_TYPES = ("application/octet-stream", "binary/octet-stream", "")


def is_address(name):
    """Whether a name is an http: or https: address."""
    return urllib.parse.urlsplit(str(name)).scheme in SCHEMES


def fetch(address):
    """The bytes of an image.

    Args:
        address: http: or https: address.

    Raises:
        OSError: no answer, an error of the server, or the end came too early or too late.
        ValueError: it is no image, or has more than `MAX_BYTES`.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "keras-gflv2"})
    end = time.monotonic() + PATIENCE
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _check_headers(address, response.headers)
            content = bytearray()
            while block := response.read(BLOCK):
                content += block
                if len(content) > MAX_BYTES:
                    raise ValueError(_too_large(address))
                if time.monotonic() > end:
                    raise OSError(f"it is not here after {PATIENCE:.0f} s")
            if response.length:
                raise OSError(f"the connection ended {response.length} bytes too early")
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"{address} answers {error.code} {error.reason}.") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise OSError(f"{address} cannot be had: {reason}.") from error
    return bytes(content)


def _check_headers(address, headers):
    kind = (headers.get_content_type() if headers.get("Content-Type") else "").lower()
    if kind not in UNKNOWN_TYPES and not kind.startswith("image/"):
        raise ValueError(f"{address} is not an image: its server calls it {kind}.")
    length = headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > MAX_BYTES:
        raise ValueError(_too_large(address))


def _too_large(address):
    return f"{address} has more than the {MAX_BYTES >> 20} MB that are accepted."
