"""The images of one folder, and no other file: what a page may ask for by name."""

import functools
from pathlib import Path

from keras_gflv2.images import read_image
from keras_gflv2.reporting.gallery import webp_of

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST = 500  # that are listed
THUMBNAIL = 160  # pixels of the longer side
REMEMBERED = 500  # thumbnails


class Examples:
    """The images directly in a folder, as they are at the moment.

    A name is looked up in the list of what is there: paths lead nowhere, and links only to files
    of the same folder.

    Args:
        folder: path.

    Raises:
        ValueError: there is no such folder, or no image in it.
    """

    def __init__(self, folder):
        self._folder = Path(folder).resolve()
        if not self._folder.is_dir():
            raise ValueError(f"--examples {folder} is not a folder.")
        if not self.names():
            raise ValueError(
                f"--examples {folder} has no image directly in it ({', '.join(ENDINGS)})."
            )
        self._thumbnail = functools.lru_cache(REMEMBERED)(_thumbnail)

    def names(self):
        """Names of the images in order, at most `MOST`."""
        return sorted(self._files())[:MOST]

    def read(self, name, max_bytes):
        """The content of the file of a name.

        Raises:
            KeyError: no image of that name is listed.
            ValueError: it has more than `max_bytes`.
        """
        path = self._files()[name]
        size = path.stat().st_size
        if size > max_bytes:
            raise ValueError(
                f"{name} has {size / 1e6:.1f} MB, more than the {max_bytes / 1e6:g} MB that are "
                "accepted (--max-megabytes)."
            )
        return path.read_bytes()

    def thumbnail(self, name):
        """A small picture as bytes of a WebP file.

        Raises:
            KeyError: no image of that name is listed.
            ValueError: it cannot be read.
        """
        path = self._files()[name]
        return self._thumbnail(path, path.stat().st_mtime_ns)

    def _files(self):
        """{name: path} of all images directly in the folder."""
        files = {}
        for path in self._folder.iterdir():
            is_image = path.suffix.lower() in ENDINGS and not path.name.startswith(".")
            is_here = not path.is_symlink() or path.resolve().parent == self._folder
            if is_image and is_here and path.is_file():
                files[path.name] = path
        return files


def _thumbnail(path, changed):
    del changed  # a file that has changed is another one
    return webp_of(read_image(path), THUMBNAIL)
