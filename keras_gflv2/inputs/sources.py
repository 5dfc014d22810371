"""What a user names -> sources of images, in order, without reading any image."""

import dataclasses
import glob
import os
import urllib.parse
from pathlib import Path, PurePosixPath

import numpy as np

from keras_gflv2.images import read_image
from keras_gflv2.inputs import addresses, videos

CAMERA = "camera:"
PICTURES = (".jpg", ".jpeg", ".png")  # endings that a picture with boxes keeps


@dataclasses.dataclass
class Frame:
    """One image to look at.

    Attributes:
        source: the `Source` that it is of.
        content: uint8 array (H, W, 3) RGB, or the path or the bytes of an encoded file.
        index: its number in a video, from 0; None of an image.
        seconds: its time in a video; None of an image.
    """

    source: "Source"
    content: object
    index: int | None = None
    seconds: float | None = None

    def read(self):
        """Decodes the content, once.

        Returns:
            uint8 array (H, W, 3) RGB.

        Raises:
            ValueError: it is not an image.
        """
        if not isinstance(self.content, np.ndarray):
            self.content = read_image(self.content, name=self.source.name)
        return self.content


@dataclasses.dataclass(frozen=True)
class Source:
    """An image, a video or a camera.

    Attributes:
        name: path or address, as messages and results have it.
        kind: "image", "video" or "camera".
        target: relative path, without an ending, for what is made of it; unique among all.
        suffix: ending of the file, in lower case, "" if it has none.
        is_named: whether the user named it, and not a folder or a pattern that it is in.
    """

    name: str
    kind: str
    target: PurePosixPath
    suffix: str
    is_named: bool

    @property
    def is_video(self):
        """Whether it has many frames."""
        return self.kind != "image"

    @property
    def picture_suffix(self):
        """The ending for a picture of it that is written."""
        return self.suffix if self.suffix in PICTURES else ".png"

    def frames(self, step=1, limit=None, encoded=False):
        """Yields the `Frame`s.

        Args:
            step: of a video every so many frames, beginning with the first.
            limit: of a video at most so many.
            encoded: whether the content of images may stay encoded, not to be decoded in vain.

        Raises:
            ValueError: it is not an image or a video.
            OSError: it cannot be read.
        """
        if self.is_video:
            for index, seconds, pixels in videos.read_frames(self.opened(), step, limit):
                yield Frame(self, pixels, index, seconds)
            return
        is_address = addresses.is_address(self.name)
        frame = Frame(self, addresses.fetch(self.name) if is_address else self.name)
        if not encoded:
            frame.read()
        yield frame

    def opened(self):
        """What OpenCV opens: the number of a camera, or a file or an address."""
        return int(self.name.removeprefix(CAMERA)) if self.kind == "camera" else self.name


def find_sources(names, output=None):
    """Sources of images by what a user names.

    Args:
        names: list of image or video files, folders (all that is in them, at any depth, but for
            what is hidden), patterns (`photos/**/*.jpg`), addresses (http:, https:, rtsp:) and
            `camera:0`.
        output: folder whose content is left out, where it is inside of one that is named.

    Returns:
        List of `Source`, each file once, in the order of `names`, folders sorted.

    Raises:
        FileNotFoundError: there is no such file, or nothing fits a pattern.
        ValueError: there is nothing in what was named.
    """
    found, seen, taken = [], set(), set()
    for name in map(os.fspath, names):
        left_out = Path(output).resolve() if output else None
        if left_out == Path(name).resolve():
            left_out = None
        for path, inside, is_named in _expand(name):
            key = path if inside is None else path.resolve()
            if key in seen or (left_out and inside and left_out in key.parents):
                continue
            seen.add(key)
            found.append(_source(path, inside, is_named, taken))
    if not found:
        raise ValueError(f"There is no image in {', '.join(map(str, names))}.")
    return found


def _expand(name):
    """Yields of what a name means: path or address, relative path for its target, is it named.

    The relative path is None for what is not a file.
    """
    if name.startswith(CAMERA) or addresses.is_address(name) or name.startswith("rtsp:"):
        if name.startswith(CAMERA) and not name.removeprefix(CAMERA).isdigit():
            raise ValueError(f"{name}: a camera is named by its number, as in camera:0.")
        yield name, None, True
        return
    path = Path(name)
    if path.is_file():
        yield path, Path(path.name), True
    elif path.is_dir():
        yield from ((inside, inside.relative_to(path), False) for inside in _walk(path))
    elif glob.has_magic(name):
        files = sorted(Path(file) for file in glob.glob(name, recursive=True))
        files = [file for file in files if file.is_file()]
        if not files:
            raise FileNotFoundError(f"No file fits the pattern {name}.")
        fixed = Path(*_without_magic(path.parts))
        yield from ((file, file.relative_to(fixed), False) for file in files)
    else:
        raise FileNotFoundError(f"The image {path} does not exist.")


def _walk(folder):
    """Files in a folder at any depth, sorted, but for hidden ones."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not name.startswith("."))


def _without_magic(parts):
    """The folders of a pattern before its first wildcard."""
    for part in parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _source(path, inside, is_named, taken):
    name = str(path)
    if name.startswith(CAMERA):
        stem, suffix, kind = name.replace(":", "_"), "", "camera"
    elif inside is None:
        address = PurePosixPath(urllib.parse.urlsplit(name).path)
        stem, suffix = address.stem or "stream", address.suffix.lower()
        kind = "video" if name.startswith("rtsp:") or suffix in videos.ENDINGS else "image"
    else:
        stem, suffix = str(inside.with_suffix("")), path.suffix.lower()
        kind = "video" if suffix in videos.ENDINGS else "image"
    target, number = PurePosixPath(Path(stem).as_posix()), 2
    while target in taken:
        target, number = PurePosixPath(f"{Path(stem).as_posix()}_{number}"), number + 1
    taken.add(target)
    return Source(name, kind, target, suffix, is_named)
