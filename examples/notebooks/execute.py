"""Makes the notebooks from the text beside them, with the outputs of a real run.

    python examples/notebooks/execute.py                  # all of them
    python examples/notebooks/execute.py quick_start      # one

The text, in Jupytext's percent format, is what is edited. Needs jupytext, nbclient and ipykernel,
which the extra `dev` brings.
"""

import argparse
from pathlib import Path

import jupytext
import nbclient
import nbformat

HERE = Path(__file__).parent
NAMES = ("quick_start", "your_data", "uncertainty", "serving")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=" ".join(NAMES))
    for name in parser.parse_args(arguments).names:
        notebook = run(read(HERE / f"{name}.py"), HERE)
        nbformat.write(notebook, HERE / f"{name}.ipynb")
        print(f"Wrote {HERE / name}.ipynb")


def read(path, changes=()):
    """The notebook of a text file, without outputs.

    Args:
        path: of the .py file.
        changes: pairs of text and what replaces it, e.g. fewer epochs.

    Raises:
        ValueError: a text to replace is not there.
    """
    text = Path(path).read_text()
    for old, new in changes:
        if old not in text:
            raise ValueError(f"{path} has no {old!r}.")
        text = text.replace(old, new)
    notebook = jupytext.reads(text, fmt="py:percent")
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"  # not a random one: it would change with every run
    return notebook


def run(notebook, folder, timeout=1800):
    """Runs a notebook in a folder, in place; returns it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails; the message has its traceback.
    """
    client = nbclient.NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_smaller(output) for output in cell.outputs if not _is_log(output)]
    return notebook


def _is_log(output):
    """What libraries write about themselves; warnings and progress are no result either."""
    if output.output_type != "stream":
        return False
    return output.name == "stderr" or output.text.startswith("INFO:tensorflow")


def _smaller(output):
    """Pillow's pictures come as PNG and as JPEG, a tenth of the size."""
    if "image/jpeg" in output.get("data", {}):
        output.data.pop("image/png", None)
    return output


if __name__ == "__main__":
    main()
