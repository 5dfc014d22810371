"""The pages of the documentation against the files, names and commands that they speak of."""

import argparse
import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest

import keras_gflv2
from keras_gflv2.cli import build_parser
from keras_gflv2.models import GFLV2
from keras_gflv2.serving import ServingClient

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
# [text](target) and ![text](target), without the part after #.
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
BLOCK = re.compile(r"(?ms)^( *)```(python|bash|shell)\n(.*?)^\1```")
LOOP = re.compile(r"for (\w+) in (\S+)")
# What the pages call by a name of their own.
OBJECTS = {"model": GFLV2, "student": GFLV2, "teacher": GFLV2, "client": ServingClient}

of_each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, *languages):
    return [text for _, kind, text in BLOCK.findall(page.read_text()) if kind in languages]


@of_each_page
def test_links_lead_to_files(page):
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert targets or page.name != "README.md"
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_every_page_is_in_the_navigation():
    index = (ROOT / "docs" / "index.md").read_text()
    named = set(re.findall(r"(?m)^(?:.*<)?([\w/]+)>?$", index))
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} - named == {"index"}


def dotted(node):
    """["keras_gflv2", "losses", "FocalLoss"] of such an expression; None of any other."""
    if isinstance(node, ast.Name):
        return [node.id]
    parts = dotted(node.value) if isinstance(node, ast.Attribute) else None
    return parts and [*parts, node.attr]


def find(parts):
    """What a dotted name of the package, or a method of a detector, is; None if it is neither."""
    if parts and parts[0] == "keras_gflv2":
        found = keras_gflv2
    elif parts and len(parts) == 2 and parts[0] in OBJECTS:
        found = OBJECTS[parts[0]]
    else:
        return None
    for part in parts[1:]:
        found = getattr(found, part)
    return found


def check_call(call):
    """Raises TypeError where something of the package is called with arguments it does not take."""
    parts = dotted(call.func)
    function = find(parts)
    if function is None:
        return
    signature = inspect.signature(function)
    if parts[0] in OBJECTS and not inspect.ismethod(function):  # found on the class
        signature = signature.replace(parameters=[*signature.parameters.values()][1:])
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    unpacked = len(keywords) < len(call.keywords)
    (signature.bind_partial if unpacked else signature.bind)(*call.args, **keywords)


def check_python(text):
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted(node) or [""])[0] == "keras_gflv2":
            find(dotted(node))
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("keras_gflv2"):
            for alias in node.names:
                find([*node.module.split("."), alias.name])
        elif isinstance(node, ast.Call):
            check_call(node)


@of_each_page
def test_python_names_what_the_package_has(page):
    for text in blocks(page, "python"):
        check_python(text)


def test_the_check_of_python_sees_mistakes():
    for text, error in {
        "keras_gflv2.losses.NoLoss()": AttributeError,
        "from keras_gflv2.losses import NoLoss": AttributeError,
        "keras_gflv2.AnchorGrid(stride=8)": TypeError,
        "keras_gflv2.data.load_voc('BCCD', 'val', size=(1, 1))": TypeError,
        "model.detect('a.jpg', threshold=0.3)": TypeError,
        "keras_gflv2.GFLV2.from_preset()": TypeError,
    }.items():
        with pytest.raises(error):
            check_python(text)


def commands(text):
    """The commands of a shell block as lists of words, without comments."""
    text = text.replace("\\\n", " ")
    for name, first in LOOP.findall(text):
        text = text.replace(f"${name}", first)
    for line in text.splitlines():
        tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
        tokens.whitespace_split = True
        words = []
        for token in [*tokens, ";"]:
            if set(token) <= set(";&|()<>"):
                yield words
                words = []
            else:
                words.append(token)


def relax(parser):
    """Nothing is required any more."""
    for part in (*parser._actions, *parser._mutually_exclusive_groups):
        part.required = False


def check_command(words):
    """Raises ValueError or fails where a command has arguments that it does not take."""
    while words and "=" in words[0]:  # KERAS_BACKEND=jax
        words = words[1:]
    parser, subparsers = build_parser()
    if "keras_gflv2.cli" in words:  # python -m, torchrun -m
        words = ["keras-gflv2", *words[words.index("keras_gflv2.cli") + 1 :]]
    if words[:1] == ["keras-gflv2"]:
        if "..." in words:  # what a page does not repeat
            relax(subparsers[words[1]])
        _, unknown = parser.parse_known_args(words[1:])
        assert set(unknown) <= {"..."}, words
    elif words[:1] == ["python"] and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), words


@of_each_page
def test_commands_parse(page, monkeypatch):
    def error(self, message):
        raise ValueError(f"{self.prog}: {message}")

    monkeypatch.setattr(argparse.ArgumentParser, "error", error)
    for text in blocks(page, "bash", "shell"):
        for words in commands(text):
            try:
                check_command(words)
            except SystemExit as stop:  # --help
                assert not stop.code
