"""The charts of the report as specifications of Vega-Lite, which draws them.

In: the data of runs, see `run_of`. Out: {name of the chart: specification}. Colors, fonts and
sizes are of the page, which adds them for light and dark.
"""

from keras_gflv2.evaluation.errors import KINDS
from keras_gflv2.intervals import SIDES
from keras_gflv2.reporting.run import ALL

MEASURES = {"AP": "AP", "AP50": "AP50", "small": "AP small", "medium": "AP medium",
            "large": "AP large"}  # fmt: skip
FEW = 10  # lines whose colors can be told apart
UNIT = {"domain": [0, 1]}
EVERY = "every class"


def charts_of(runs):
    """Specifications of all charts of a report.

    Args:
        runs: list of what `run_of` returns.
    """
    return {
        "classes": _classes(runs),
        "sizes": _sizes(runs),
        "precision_recall": _precision_recall(runs),
        "f1": _f1(runs),
        "confusion": _confusion(runs[0]["class_names"]),
        "reliability": _reliability(runs),
        "sides": _sides(runs),
        "costs": _costs(runs),
        "side": side_chart(),
    }


def _chart(description, rows, height=260, **rest):
    return {
        "description": description,
        "data": {"values": rows},
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "height": height,
        **rest,
    }


def _choice(name, label, options, value):
    """A parameter that the reader chooses from a list."""
    bind = {"input": "select", "options": options, "name": label}
    return {"name": name, "value": value, "bind": bind}


def _field(name, title=None, kind="quantitative", **rest):
    """A channel of an encoding; its title is the name of the field, or none if it is ""."""
    title = name if title is None else title or None
    return {"field": name, "type": kind, "title": title, **rest}


def _color(runs, lines=None):
    """Color of lines and bars: by run if there are several, else by something else or none."""
    names = [run["name"] for run in runs]
    if len(names) > 1:
        return {"color": _field("run", None, "nominal", scale={"domain": names})}
    if lines and len(lines) > 1:
        return {"color": _field("line", "", "nominal", scale={"domain": lines})}
    return {}


def _tooltip(*names):
    numeric = {"format": ".3f"}
    return [
        {"field": n, **(numeric if n not in ("run", "class", "line", "size", "error") else {})}
        for n in names
    ]


def _bars(runs, row, field, title, order, **scale):
    """Encoding of horizontal bars, one for each run."""
    encoding = {
        "y": _field(row, "", "nominal", sort=order),
        "x": _field(field, title, scale=scale, axis={"tickCount": 5}),
        "tooltip": _tooltip("run", row, field),
        **_color(runs),
    }
    if len(runs) > 1:
        encoding["yOffset"] = _field("run", None, "nominal", sort=[run["name"] for run in runs])
    return encoding


def _bars_height(runs, count):
    return {"step": 20 if len(runs) == 1 else 12 * len(runs)} if count else 40


# === The charts ===


def _classes(runs):
    rows = [
        {"run": run["name"], "class": row["class"], "measure": label, "AP": row[key]}
        for run in runs
        for row in run["classes"]
        for key, label in MEASURES.items()
        if row[key] is not None
    ]
    names = runs[0]["class_names"]
    return _chart(
        "Bars: average precision of each class.",
        rows,
        _bars_height(runs, len(names)),
        params=[_choice("measure", "Measure ", list(MEASURES.values()), "AP")],
        transform=[{"filter": "datum.measure == measure"}],
        mark="bar",
        encoding=_bars(runs, "class", "AP", "average precision", names, **UNIT),
    )


def _sizes(runs):
    sizes = {"APs": "small", "APm": "medium", "APl": "large"}
    rows = [
        {"run": run["name"], "size": size, "AP": run["metrics"][key]}
        for run in runs
        for key, size in sizes.items()
        if run["metrics"][key] is not None
    ]
    return _chart(
        "Bars: average precision of small, medium and large objects.",
        rows,
        _bars_height(runs, 3),
        mark="bar",
        encoding=_bars(runs, "size", "AP", "average precision", list(sizes.values()), **UNIT),
    )


def _lines_of_classes(runs, rows, x, y, titles, description, extra=()):
    """Lines over 0..1 for each run and class, of which the reader chooses one class."""
    classes = list(dict.fromkeys(row["line"] for row in rows))
    together = [EVERY] if len(runs) == 1 and len(classes) <= FEW else []
    options = [*together, ALL, *(name for name in classes if name != ALL)]
    thick = {"test": f"datum.line == '{ALL}'", "value": 3}
    line = {
        "mark": "line",
        "encoding": {
            "x": _field(x, titles[0], scale=UNIT),
            "y": _field(y, titles[1], scale=UNIT),
            "tooltip": _tooltip("run", "line", x, y),
            "strokeWidth": {"condition": thick, "value": 1.5},
            **_color(runs, classes if together else None),
        },
    }
    return _chart(
        description,
        rows,
        params=[_choice("chosen", "Class ", options, options[0])],
        transform=[{"filter": f"chosen == '{EVERY}' || datum.line == chosen"}],
        layer=[line, *extra],
    )


def _precision_recall(runs):
    rows = [
        {"run": run["name"], "line": line["class"], "recall": recall, "precision": precision}
        for run in runs
        for line in run["precision_recall"]["lines"]
        for recall, precision in zip(run["precision_recall"]["recall"], line["precision"])
    ]
    titles = ("recall", "precision")
    description = "Lines: precision against recall at an IoU of 0.5."
    return _lines_of_classes(runs, rows, "recall", "precision", titles, description)


def _f1(runs):
    rows = [
        {"run": run["name"], "line": name, "threshold": threshold, "F1": value}
        for run in runs
        for name, line in zip([*run["class_names"], ALL], run["f1"]["f1"])
        for threshold, value in zip(run["f1"]["thresholds"], line)
        if value is not None
    ]
    # The best threshold, marked and named.
    best = {"transform": [{"joinaggregate": [{"op": "max", "field": "F1", "as": "highest"}],
                           "groupby": ["run", "line"]},
                          {"filter": "datum.F1 == datum.highest"},
                          {"aggregate": [{"op": "min", "field": "threshold", "as": "threshold"},
                                         {"op": "max", "field": "F1", "as": "F1"}],
                           "groupby": ["run", "line"]}]}  # fmt: skip
    # Of many lines one has a name: the names would lie on each other.
    alone = {"filter": f"chosen != '{EVERY}' || datum.line == '{ALL}'"}
    named = {"transform": [*best["transform"], alone]}
    places = {
        "x": _field("threshold", "score threshold", scale=UNIT),
        "y": _field("F1", "F1", scale=UNIT),
        "tooltip": _tooltip("run", "line", "threshold", "F1"),
    }
    text = {"text": {"field": "threshold", "type": "quantitative", "format": ".2f"}}
    extra = [
        {**best, "mark": {"type": "point", "filled": True, "size": 60}, "encoding": places},
        {**named, "mark": {"type": "text", "dy": -10}, "encoding": {**places, **text}},
    ]
    description = "Lines: F1 against the score threshold, with the best threshold of each."
    titles = ("score threshold", "F1")
    return _lines_of_classes(runs, rows, "threshold", "F1", titles, description, extra)


def _confusion(names):
    """Its rows come from the page: {"truth", "predicted", "count", "share" (of the truth's row),
    "bright" (is the color of the share, for a number that can be read on it)}"""
    count = len(names)
    predicted, truth = [*names, "(missed)"], [*names, "(background)"]
    places = {
        "x": _field("predicted", "predicted class", "nominal", sort=predicted,
                    scale={"domain": predicted}),
        "y": _field("truth", "true class", "nominal", sort=truth, scale={"domain": truth}),
    }  # fmt: skip
    share = _field("share", "share of the row", scale=UNIT)  # colors: range.heatmap of the page
    tooltip = [{"field": n} for n in ("truth", "predicted", "count")]
    tooltip.append({"field": "share", "format": ".1%"})
    cells = {"mark": "rect", "encoding": {"color": share, "tooltip": tooltip}}
    numbers = {
        "mark": {"type": "text", "fontSize": 11 if count > FEW else 13},
        "encoding": {
            "text": {"field": "count"},
            "color": {"condition": {"test": "datum.bright", "value": "#111"}, "value": "white"},
            "tooltip": tooltip,
        },
    }
    description = "Table of colors: how often objects of one class were detected as another."
    layers = {"encoding": places, "layer": [cells, numbers]}
    return _chart(description, [], max(180, 34 * (count + 1)), **layers)


def _diagonal(x, y):
    """A dashed line where both are equal; x and y are the channels of the chart."""
    return {
        "data": {"values": [{x["field"]: value, y["field"]: value} for value in (0, 1)]},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "gray", "opacity": 0.8},
        "encoding": {"x": x, "y": y},
    }


def _reliability(runs):
    rows = [
        {"run": run["name"], "score": row["score"], "share": row["precision"],
         "detections": row["count"]}
        for run in runs
        for row in run["reliability"]["rows"]
    ]  # fmt: skip
    encoding = {
        "x": _field("score", "mean score", scale=UNIT),
        "y": _field("share", "share that is right", scale=UNIT),
        "tooltip": [*_tooltip("run", "score", "share"), {"field": "detections"}],
        **_color(runs),
    }
    line = {"mark": "line", "encoding": encoding}
    points = {"mark": {"type": "point", "filled": True, "size": 50}, "encoding": encoding}
    return _chart(
        "Lines: share of detections that are right, against their score.",
        rows,
        layer=[
            _diagonal(encoding["x"], encoding["y"]),
            line,
            points,
        ],
    )


def _sides(runs):
    rows = [
        {"run": run["name"], "line": row["side"], "asked": row["nominal"],
         "held": row["coverage"], "width": row["width"]}
        for run in runs
        for row in run["sides"].get("curve", ())
    ]  # fmt: skip
    lines = ["all", *SIDES]
    options = [*(["each side"] if len(runs) == 1 else []), *lines]
    encoding = {
        "x": _field("asked", "coverage asked for", scale=UNIT),
        "y": _field("held", "share of true sides inside", scale=UNIT),
        "tooltip": _tooltip("run", "line", "asked", "held", "width"),
        **_color(runs, lines),
    }
    chosen = {"filter": "chosen == 'each side' || datum.line == chosen"}
    mark = {"type": "line", "point": True}
    return _chart(
        "Lines: share of true sides inside the intervals, against the coverage asked for.",
        rows,
        params=[_choice("chosen", "Side ", options, options[0])],
        layer=[
            _diagonal(encoding["x"], encoding["y"]),
            {"transform": [chosen], "mark": mark, "encoding": encoding},
        ],
    )


def _costs(runs):
    rows = [
        {"run": run["name"], "error": kind, "AP50": run["errors"]["costs"][kind]}
        for run in runs
        for kind in KINDS
        if run["errors"]["costs"][kind] is not None
    ]
    return _chart(
        "Bars: by how much AP50 would rise without each kind of error.",
        rows,
        _bars_height(runs, len(KINDS)),
        mark="bar",
        encoding=_bars(runs, "error", "AP50", "AP50 that it costs", list(KINDS)),
    )


def side_chart():
    """The distribution of one side.

    The page gives its data: "bars" with {"place", "end", "probability"}, and the places of the
    "predicted" and the true side, "truth"."""
    bars = {
        "mark": {"type": "bar"},
        "encoding": {
            "x": _field("place", "pixels", scale={"zero": False, "nice": False}),
            "x2": {"field": "end"},
            "y": _field("probability", scale=UNIT),
            "y2": {"datum": 0},
            "tooltip": [{"field": "middle", "format": ".1f", "title": "at"},
                        *_tooltip("probability")],
        },
    }  # fmt: skip
    marks = [
        {
            "data": {"name": name, "values": []},
            "mark": {"type": "rule", "size": 2, **style},
            "encoding": {"x": _field("at", "pixels")},
        }
        for name, style in (
            ("predicted", {"color": "#2a9d4a"}),
            ("truth", {"color": "gray", "strokeDash": [5, 4]}),
        )
    ]
    chart = _chart("Bars: distribution of the side of a box.", [], 130, layer=[bars, *marks])
    return {**chart, "data": {"name": "bars", "values": []}}
