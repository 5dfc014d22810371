"""Figure 6: speed against AP, from a table of results."""

import csv
from pathlib import Path

from keras_gflv2.visualization.figures.scenes import save

# What names a line, and a point on it, in the order in which they are looked for.
SERIES = ("method", "detector", "format", "model", "row")
POINTS = ("backbone", "precision", "runtime", "size", "seed")
MARKS = "os^DvPX*<>hp"


def speed_accuracy(rows, series=None, point=None):
    """Milliseconds per image and AP of each row of a table of results.

    Args:
        rows: list of dictionaries, or the path of a CSV file with a header. Columns: "AP" (0..1),
            and "milliseconds" or "images_per_second" of one image. Rows without them are left out.
        series: column whose values are lines. Default: the first of "method", "detector", "format",
            "model" and "row" that there is.
        point: column that names the points of a line. Default: the first of "backbone",
            "precision", "runtime", "size" and "seed" that there is.

    Returns:
        List of dictionaries with "series", "point", "milliseconds" and "AP", in the order of the
        rows.

    Raises:
        ValueError: a column is missing, or no row has numbers.
    """
    if isinstance(rows, str | Path):
        with Path(rows).open(newline="") as file:
            rows = list(csv.DictReader(file))
    names = list(rows[0]) if rows else []
    series = series or next((name for name in SERIES if name in names), None)
    point = point or next((name for name in POINTS if name in names and name != series), None)
    timing = next((name for name in ("milliseconds", "images_per_second") if name in names), None)
    if series is None or timing is None or "AP" not in names:
        raise ValueError(
            'Speed against AP needs the columns "AP", "milliseconds" or "images_per_second", and '
            f"one of {SERIES}. Received: {names}."
        )
    found = []
    for row in rows:
        if row["AP"] in ("", None) or row[timing] in ("", None):
            continue
        time = float(row[timing])
        found.append(
            {
                "series": str(row[series]),
                "point": str(row[point]) if point else "",
                "milliseconds": time if timing == "milliseconds" else 1000 / time,
                "AP": float(row["AP"]),
            }
        )
    if not found:
        raise ValueError(f'No row has both "AP" and {timing!r}.')
    return found


def draw_speed_accuracy(points, path):
    """Draws what `speed_accuracy` returns: a line per series, from fast to slow, in its color.

    What the points of a line are is told by their marks, the same ones for all lines.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    names = dict.fromkeys(point["point"] for point in points)
    marks = {name: MARKS[index % len(MARKS)] for index, name in enumerate(names)}
    handles = []
    for series in dict.fromkeys(point["series"] for point in points):
        own = sorted((p for p in points if p["series"] == series), key=lambda p: p["milliseconds"])
        x, y = ([p[name] for p in own] for name in ("milliseconds", "AP"))
        handles += axes.plot(x, y, label=series, linewidth=1.5)
        for point in own:
            place = point["milliseconds"], point["AP"]
            axes.plot(*place, marks[point["point"]], color=handles[-1].get_color(), markersize=8)
    if len(names) > 1:
        style = {"color": "gray", "linestyle": "none"}
        handles += [Line2D([], [], marker=mark, label=n, **style) for n, mark in marks.items()]
    axes.set(xlabel="milliseconds per image", ylabel="AP", title="speed against AP")
    axes.margins(0.08)
    axes.grid(alpha=0.3)
    axes.legend(handles=handles, fontsize=9)
    save(figure, Path(path))
