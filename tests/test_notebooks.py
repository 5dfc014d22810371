"""The notebooks of examples/notebooks: as the text beside them, run, and small enough to read."""

import importlib.util
from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="the extra `dev` brings jupytext")
pytest.importorskip("nbclient", reason="the extra `dev` brings nbclient")
nbformat = pytest.importorskip("nbformat")

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = EXAMPLES / "notebooks"
MAX_BYTES = 500_000
# What a test changes, so that a training takes seconds.
SMALLER = {
    "quick_start": (),
    "your_data": (("make_coco_file.py runs/toys", "make_coco_file.py runs/toys --images 20"),)
    + (("epochs=8", "epochs=1"),),
    "uncertainty": (),
    "serving": (),
}
of_each_notebook = pytest.mark.parametrize("name", SMALLER)


@pytest.fixture(scope="module")
def execute():
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_text_has_its_notebook(execute):
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(SMALLER) == set(execute.NAMES)


@of_each_notebook
def test_a_notebook_is_the_text_beside_it(name, execute):
    """`python examples/notebooks/execute.py` makes it anew."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    text = execute.read(FOLDER / f"{name}.py")
    for one, other in zip(notebook.cells, text.cells, strict=True):
        assert (one.cell_type, one.source) == (other.cell_type, other.source)


@of_each_notebook
def test_a_notebook_was_run_from_top_to_bottom(name):
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < MAX_BYTES
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any({"image/png", "image/jpeg"} & {*output.get("data", ())} for output in outputs)


@pytest.mark.slow  # a kernel with TensorFlow each, and a training
@of_each_notebook
def test_a_notebook_runs(name, execute, tmp_path):
    for part in ("cells", "walks", "model_server.py"):
        (tmp_path / part).symlink_to(EXAMPLES / part)
    (tmp_path / "notebooks").mkdir()
    notebook = execute.read(FOLDER / f"{name}.py", SMALLER[name])
    execute.run(notebook, tmp_path / "notebooks")  # which raises where a cell fails
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_a_change_that_would_change_nothing_is_an_error(execute):
    with pytest.raises(ValueError, match="has no 'epochs=99'"):
        execute.read(FOLDER / "your_data.py", [("epochs=99", "epochs=1")])
