"""The HTML file: data, charts, style, script and the charting library in one.

In: the data of runs, see `run_of`. Out: a file that a browser shows without a network.
"""

import datetime
import html
import importlib.util
import json
import re
from pathlib import Path

import keras_gflv2
from keras_gflv2.files import written_whole
from keras_gflv2.reporting.charts import charts_of
from keras_gflv2.reporting.web import asset, charting_library, filled, json_in_html

INSTALL = 'Install it with `pip install "keras-gflv2[report]"`.'
DATA = re.compile(r'<script type="application/json" id="report">(.*?)</script>', re.DOTALL)


def check_installed():
    """Raises ImportError if the charting library is not there."""
    if importlib.util.find_spec("vl_convert") is None:
        raise ImportError(f"A report needs Vega, from the package vl-convert-python. {INSTALL}")


def write_report(path, runs, data=""):
    """Writes the report of one or several detectors as one HTML file.

    Args:
        path: of the file; its folder is made.
        runs: list of what `run_of` returns, of detectors with the same classes that were evaluated
            on the same images.
        data: how the dataset is called.

    Returns:
        The path.

    Raises:
        ImportError: the extra `report` is not installed.
        ValueError: there is no run, or the runs are of other classes or images.

    >>> images = keras_gflv2.evaluation.detections.detect_dataset(model, val_ds)
    >>> run = keras_gflv2.reporting.run_of("nano", model, val_ds, images)
    >>> keras_gflv2.reporting.write_report("report.html", [run])
    """
    check_installed()
    _check(runs)
    runs = _with_own_names(runs)
    about = {
        "data": data,
        "date": datetime.date.today().isoformat(),
        "version": keras_gflv2.__version__,
    }
    parts = {
        "title": html.escape(f"Evaluation of {', '.join(run['name'] for run in runs)}"),
        "style": asset("viewer.css") + asset("page.css"),
        "report": json_in_html({"about": about, "runs": runs}),
        "charts": json_in_html(charts_of(runs)),
        "library": charting_library(),
        "script": asset("viewer.js") + asset("page.js"),
    }
    page = filled(asset("page.html"), parts)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def read_report(path):
    """The runs of a report that `write_report` wrote, to be compared with others.

    Raises:
        ValueError: the file is no such report.
    """
    found = DATA.search(Path(path).read_text(encoding="utf-8", errors="replace"))
    try:
        return json.loads(found[1])["runs"]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} is no report that `keras-gflv2 evaluate --report` wrote."
        ) from error


def _check(runs):
    if not runs:
        raise ValueError("A report needs at least one run.")
    first = runs[0]
    for run in runs[1:]:
        if run["class_names"] != first["class_names"]:
            raise ValueError(
                f"{run['name']} has the classes {', '.join(run['class_names'])}, and "
                f"{first['name']} {', '.join(first['class_names'])}: they cannot be compared."
            )
        for what in ("num_images", "num_objects"):
            if run[what] != first[what]:
                raise ValueError(
                    f"{run['name']} was evaluated on {run[what]} {what[4:]}, and {first['name']} "
                    f"on {first[what]}: compare them on the same images."
                )


def _with_own_names(runs):
    """Equal names get a number."""
    named, names = [], set()
    for run in runs:
        name, count = run["name"], 1
        while name in names:
            count += 1
            name = f"{run['name']} ({count})"
        names.add(name)
        named.append({**run, "name": name})
    return named
