"""The examples in docstrings: they name what there is, and run, with the results they promise.

A comment behind an example is what it returns, as an expression: `# log(2)`.
"""

import ast
import doctest
import importlib
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from test_docs import check_python

import keras_gflv2

# What runs: examples of these and of nothing else, a detector or data, which the tests of each
# function have.
KNOWN = {"np": np, "keras_gflv2": keras_gflv2, "keras": keras}


PACKAGE = Path(keras_gflv2.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text()]


def docstrings(file):
    """[(name, examples)] of a file, and the names that it has."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts))
    found = doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__, module)
    examples = [(test.name, test.examples) for test in found if test.examples]
    return examples, {name: value for name, value in vars(module).items() if name[0] != "_"}


def promised(source):
    """What the comment behind an example says that it returns; None if that is no expression."""
    _, _, comment = source.partition("#")
    try:
        return eval(comment.replace("^", "**"), {"log": math.log, "sqrt": math.sqrt})
    except (SyntaxError, NameError):
        return None


def is_complete(source, names):
    """Whether an example needs only what is given or what it makes itself: no file, no server."""
    if "://" in source or ".jpg" in source:
        return False
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    made = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    return {node.id for node in nodes} <= made | names


def assert_kept(returned, expected):
    if isinstance(expected, tuple) and any(np.ndim(part) for part in expected):
        for part, wanted in zip(returned, expected, strict=True):
            assert_kept(part, wanted)
    else:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(returned), expected, rtol=1e-3)


def run(examples, names):
    """Runs the examples of a docstring; returns how many promises they kept."""
    kept = 0
    for example in examples:
        try:
            returned = eval(example.source, names)
        except SyntaxError:  # a statement
            exec(example.source, names)
            continue
        expected = promised(example.source)
        if expected is None:
            continue
        assert_kept(returned, expected)
        kept += 1
    return kept


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_examples_run(file):
    docs, public = docstrings(file)
    assert docs
    for _, examples in docs:
        source = "".join(example.source for example in examples)
        check_python(source)
        names = KNOWN | public
        if is_complete(source, set(names)):
            kept = run(examples, names)
            assert kept or "losses" not in file.parts


def test_a_wrong_promise_is_seen():
    with pytest.raises(AssertionError):
        run([doctest.Example("np.ones(2)  # 1 + 1\n", "")], KNOWN)
