"""Rows of a benchmark to a CSV file and to Markdown."""

import csv
import statistics
from pathlib import Path

# What the rows of one table have in common.
GROUP = ("model", "size", "batch")
CONVOLUTION = "convolution"


def row_of(times, subject, part, first, batch, operations=None):
    """Statistics of one subject's part, in turn with others.

    Args:
        times: of `measure_in_turn`.
        subject, part: names.
        first: name of the subject that others are divided by.
        batch: images per call.
        operations: of the part, or None.
    """
    seconds = times[subject, part]
    median = statistics.median(seconds)
    reference = times.get((first, part))
    return {
        "subject": subject,
        "part": part,
        "calls": len(seconds),
        "median_ms": _rounded(1000 * median),
        "fastest_ms": _rounded(1000 * min(seconds)),
        "images_per_second": _rounded(batch / median),
        "ratio": _rounded(median / statistics.median(reference), 3) if reference else "",
        "gigaflop_per_second": _rounded(operations / median / 1e9) if operations else "",
    }


def _rounded(value, digits=4):
    return float(f"{value:.{digits}g}")


def write_csv(file, rows):
    """Writes rows, dictionaries of any keys; the columns are those of all of them."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(file):
    """The rows of a file of `write_csv`, as strings; none if there is no file."""
    file = Path(file)
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def markdown(rows):
    """A table for each model, size and batch: a row for each subject, a column for each part."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(str(row[key]) for key in GROUP), []).append(row)
    return "\n\n".join(_group(*key, members) for key, members in groups.items())


def described(rows):
    """What the figures of some rows are of, and how much of the machine the networks use."""
    lines = []
    for row in rows:
        if row.get("fraction_of_convolution"):
            lines.append(
                f"{row['subject']}: the network computes {float(row['gigaflop_per_second']):.4g} "
                f"GFLOP/s, {float(row['fraction_of_convolution']):.2f} of a 3x3 convolution of "
                "256 channels.\n"
            )
    row = rows[0]
    versions = dict.fromkeys(row["version"] for row in rows if row.get("version"))
    lines.append(
        f"Medians, in brackets the ratio to the first row, in turn; {row['cpu']}, {row['threads']} "
        f"threads; Python {row['python']}, Keras {row['keras']}, {', '.join(versions)}; "
        f"{row['date']}."
    )
    return "\n".join(lines)


def _group(model, size, batch, rows):
    rows = [row for row in rows if row["part"] != CONVOLUTION]  # which is of the machine
    parts = list(dict.fromkeys(row["part"] for row in rows))
    alone = [part for part in parts if any(r.get("peak_mb") for r in rows if r["part"] == part)]
    header = ["", *parts]
    for part in alone:
        header += [f"images/s, {part}", f"peak memory, {part}"]
    header += ["import + build + first call"]
    table = [header, ["---", *["---:"] * (len(header) - 1)]]
    for subject in dict.fromkeys(row["subject"] for row in rows):
        own = {row["part"]: row for row in rows if row["subject"] == subject}
        cells = [_time(own[part]) if part in own else "" for part in parts]
        for part in alone:
            cells += _alone(own[part]) if part in own else ["", ""]
        table.append([subject, *cells, _startup(own.values())])
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    images = "1 image" if str(batch) == "1" else f"{batch} images"
    return "\n".join([f"**{model}**, {images} of {size}:", "", *lines])


def _time(row):
    text = f"{_number(row['median_ms'])} ms"
    return f"{text} ({float(row['ratio']):.2f})" if row["ratio"] != "" else text


def _alone(row):
    memory = f"{float(row['peak_mb']):.0f} MB" if row.get("peak_mb") else ""
    return [_number(row["images_per_second"]), memory]


def _startup(rows):
    """Seconds, of the first part that was measured alone."""
    columns = ("import_seconds", "build_seconds", "first_seconds")
    found = [
        "+".join(f"{float(row[c]):.1f}" for c in columns) for row in rows if row.get(columns[2])
    ]
    return f"{found[0]} s" if found else ""


def _number(value):
    """Three digits, without an exponent."""
    value = float(value)
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f}"
