"""Text files of any encoding, and pictures under the names that annotation files give them."""

import json
import ntpath
import os
import pathlib
import re
import unicodedata
import urllib.parse
import xml.etree.ElementTree as ElementTree

DECLARED_ENCODING = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")
# Programs declare an encoding and write its extension.
EXTENDED_ENCODINGS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}


def read_json(path):
    """Returns the content of a JSON file in UTF-8, UTF-16 or UTF-32.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file cannot be read as JSON; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The annotation file {path} does not exist.")
    try:
        return json.loads(path.read_bytes())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not encoded in UTF-8: {error}. Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a valid JSON file: {error}") from error


def read_text(path):
    """Returns the text of a file in UTF-8, UTF-16 or UTF-32, without its byte order mark.

    Raises:
        ValueError: the file has another encoding; the message names the file.
    """
    return _to_text(path.read_bytes(), path)


def parse_xml(path):
    """Returns the root element of an XML file in any encoding that Python knows.

    Raises:
        ValueError: the file is not valid XML or defines entities; the message names the file.
    """
    content = path.read_bytes()
    # The parser itself knows four encodings only.
    match = DECLARED_ENCODING.match(content)
    text = _to_text(content, path, match and match[1].decode("latin-1"))
    if "<!ENTITY" in text:
        # A few nested ones unfold into gigabytes.
        raise ValueError(f"{path} defines XML entities, which are not supported. Remove them.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not a valid XML file: {error}") from error


def _to_text(content, path, declared=None):
    """Decodes by the byte order mark or the zero bytes of UTF-16 and UTF-32, else as declared."""
    encoding = json.detect_encoding(content)
    # Programs on Windows declare UTF-16 and write UTF-8.
    if declared and encoding == "utf-8" and not declared.lower().startswith(("utf-16", "utf-32")):
        encoding = declared
    try:
        return _decode(content, encoding)
    except LookupError:
        raise ValueError(
            f"{path} declares the encoding {encoding!r}, which is unknown. Save it as UTF-8."
        ) from None
    except UnicodeError as error:
        raise ValueError(
            f"{path} is not encoded in {encoding}: {error}. Save it as UTF-8."
        ) from error


def _decode(content, encoding):
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        extended = EXTENDED_ENCODINGS.get(error.encoding.lower())
        if extended is None:
            raise
        return content.decode(extended)


class ImageFolder:
    """Finds the pictures of a folder by the names that annotation files give them.

    A name is taken as it is written, else as a path of another system: with backslashes, absolute
    on another machine, with the folder's own name in front, percent-encoded, with letters in
    another case or composed in another way. What two files fit is an error.

    Args:
        folder: path of the folder.
        allow_outside: whether names may lead out of the folder.
    """

    def __init__(self, folder, allow_outside=False):
        self.folder = pathlib.Path(folder)
        self._allow_outside = allow_outside
        self._parts = pathlib.Path(os.path.abspath(folder)).parts
        self._listings = {}
        self._owners = {}  # path -> the name by which it was found

    def find(self, names, where):
        """Returns the path of a picture and whether its name was repaired.

        Args:
            names: list of str, the names that it may have; the first one found counts.
            where: the entry, for messages.

        Returns:
            `(path, repaired)`; `(None, False)` if there is no such file.

        Raises:
            ValueError: a name leads out of the folder, or two files fit it.
        """
        for search in (self._exact, self._repair):
            for name in names:
                path = search(name, where)
                if path is not None:
                    repaired = search == self._repair
                    self._check_owner(path, names[0], repaired, where)
                    return path, repaired
        return None, False

    def _check_owner(self, path, name, repaired, where):
        owner, was_repaired = self._owners.setdefault(path, (name, repaired))
        if owner != name and (repaired or was_repaired):
            raise ValueError(
                f"{where}: both {owner!r} and {name!r} lead to {path}, one of them by a guess. "
                "Correct the names."
            )

    def _exact(self, name, where):
        """The path as the name is written, None if there is no such file."""
        path = self.folder / name
        allowed = self._allow_outside or self._parts_within(name) is not None
        if not allowed and not os.path.isabs(name):
            raise ValueError(_outside(name, where, self.folder))
        return path if allowed and os.path.isfile(path) else None

    def _repair(self, name, where):
        """The path after what people and programs do to names is undone, None if there is none."""
        for spelling in _spellings(name):
            written = pathlib.PureWindowsPath(ntpath.normpath(spelling))
            if written.root:
                parts = written.parts[1:]
            else:
                parts = self._parts_within(written.as_posix())
                if parts is None:
                    path = self.folder / written.as_posix()
                    if not self._allow_outside:
                        raise ValueError(_outside(name, where, self.folder))
                    return path if os.path.isfile(path) else None
            for start in range(len(parts)):
                # The folders in front are those of another machine, or this very folder.
                if written.root or parts[:start] == self._parts[len(self._parts) - start :]:
                    path = self._ignoring_case(parts[start:], name, where)
                    if path is not None:
                        return path
        if os.path.isabs(name) and os.path.isfile(name):
            raise ValueError(_outside(name, where, self.folder))
        return None

    def _parts_within(self, name):
        """The parts of a name below the folder, None if it leads out of it."""
        parts = pathlib.Path(os.path.abspath(self.folder / name)).parts
        count = len(self._parts)
        return parts[count:] if parts[:count] == self._parts else None

    def _ignoring_case(self, parts, name, where):
        """The one file whose path differs from `parts` by case and composition at most."""
        exact = self.folder.joinpath(*parts)
        if os.path.isfile(exact):
            return exact
        found = [self.folder]
        for part in parts:
            found = [
                path / other for path in found for other in self._listing(path).get(_fold(part), ())
            ]
        found = [path for path in found if os.path.isfile(path)]
        same_stem = [path for path in found if path.stem == exact.stem]
        found = same_stem or found
        # A link beside its file is no second picture.
        if len({os.path.realpath(path) for path in found}) > 1:
            names = [str(path) for path in found]
            raise ValueError(f"{where}: there is no file {name!r}, and {names} fit equally well.")
        return found[0] if found else None

    def _listing(self, folder):
        """Names in a folder by what remains of them without case and composition."""
        if folder not in self._listings:
            names = {}
            for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
                names.setdefault(_fold(name), []).append(name)
            self._listings[folder] = names
        return self._listings[folder]


def _spellings(name):
    """A name as it is, without percent-encoding, and of an address its path."""
    names = [name, urllib.parse.unquote(name)]
    if "://" in name:
        names += [urllib.parse.unquote(urllib.parse.urlsplit(name).path)]
    return dict.fromkeys(names)


def _fold(name):
    return unicodedata.normalize("NFC", name).casefold()


def _outside(name, where, folder):
    return (
        f"{where}: the name {name!r} leads out of the folder {folder}. Correct the name, or pass "
        "the folder that holds all images. If you trust the file, `load_coco` takes "
        "`allow_outside=True`."
    )
