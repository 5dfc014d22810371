"""Imports point one way: no circle among the rooms of the package, and each knows only those below.

A room is a folder or a module directly in `keras_gflv2`. Imports inside of functions count: they
only hide a circle. No file of the repository is longer than can be read in one sitting.
"""

import ast
import graphlib
import itertools
import pathlib

import pytest

REPOSITORY = pathlib.Path(__file__).parents[1]
PACKAGE = REPOSITORY / "keras_gflv2"
NAME = PACKAGE.name
MAX_LINES = 400
FILES = sorted(PACKAGE.rglob("*.py"))
OTHER_FILES = sorted(
    file
    for folder in ("tests", "examples", "benchmarks")
    for file in (REPOSITORY / folder).rglob("*.py")
)
# Whoever uses one of these is above it.
TOP = {"app", "benchmarking", "cli", "data", "evaluation", "reporting", "reproduction", "serving"}
TOP |= {"visualization"}
PARTS = {"assigners", "backbones", "layers", "losses", "postprocessing", "representations"}


def imported_modules(file):
    """Names of the modules of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            # `from keras_gflv2 import data` may name a room, or something of the package itself.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module):
    """The room that a module is in; that of `keras_gflv2` itself is "keras_gflv2"."""
    package, *parts = module.split(".")
    if package != NAME:
        return None
    if parts and ((PACKAGE / parts[0]).is_dir() or (PACKAGE / f"{parts[0]}.py").is_file()):
        return parts[0]
    return NAME


def imported_rooms():
    """{room: {other room: a file that imports it}}"""
    found = {}
    for file in FILES:
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        room = NAME if parts == ("__init__",) else parts[0]
        others = found.setdefault(room, {})
        for other in map(room_of, imported_modules(file)):
            if other not in (None, room):
                others[other] = str(file.relative_to(PACKAGE))
    return found


ROOMS = imported_rooms()


def all_below(room):
    """Rooms that a room imports, and those that they import."""
    below, waiting = set(), [room]
    while waiting:
        new = set(ROOMS.get(waiting.pop(), ())) - below
        below |= new
        waiting += new
    return below


def test_rooms_import_in_no_circle():
    try:
        list(graphlib.TopologicalSorter(ROOMS).static_order())
    except graphlib.CycleError as error:
        circle = error.args[1][::-1]  # each imports the next
        steps = [f"{a} -> {b} ({ROOMS[a][b]})" for a, b in itertools.pairwise(circle)]
        pytest.fail(f"A circle of imports: {', '.join(steps)}")


def test_files_of_a_room_import_in_no_circle():
    modules = {}
    for file in FILES:
        # A package's `__init__` names what is in it, and is not what files in it import.
        if file.name == "__init__.py":
            continue
        name = ".".join((NAME, *file.relative_to(PACKAGE).with_suffix("").parts))
        modules[name] = set(imported_modules(file))
    graph = {
        name: {m for i in imports for m in (i, i.rpartition(".")[0]) if m in modules and m != name}
        for name, imports in modules.items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("room", sorted({"models", "training", "checkpoints", *PARTS}))
def test_detectors_know_nothing_of_what_is_done_with_them(room):
    assert not all_below(room) & (TOP | {NAME})


@pytest.mark.parametrize("room", sorted({"data", "visualization", "training", *PARTS}))
def test_no_detector_is_needed(room):
    assert "models" not in all_below(room)


def test_training_knows_no_part():
    assert not all_below("training") & (PARTS | {"grid", "targets"})


@pytest.mark.parametrize("room", sorted(PARTS))
def test_parts_know_nothing_of_training(room):
    assert "training" not in all_below(room)


@pytest.mark.parametrize(
    "file", FILES + OTHER_FILES, ids=lambda file: str(file.relative_to(REPOSITORY))
)
def test_file_is_read_in_one_sitting(file):
    assert len(file.read_text().splitlines()) <= MAX_LINES
