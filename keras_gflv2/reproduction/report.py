"""Results in, the paper's tables in Markdown out: here beside the paper, and what can be said."""

import collections
import math
import statistics

from keras_gflv2.files import written_whole
from keras_gflv2.reproduction.statistics import (
    holm,
    mean_and_spread,
    paired_test,
    rank_agreement,
)
from keras_gflv2.reproduction.tables import TABLES

FILE = "tables.md"
LEVEL = 0.05
# Metric: (heading, factor, decimals).
METRICS = {
    "AP": ("AP", 100, 1),
    "AP50": ("AP50", 100, 1),
    "AP75": ("AP75", 100, 1),
    "APs": ("APs", 100, 1),
    "APm": ("APm", 100, 1),
    "APl": ("APl", 100, 1),
    "correlation": ("correlation", 1, 3),
    "correlation_quality": ("of the quality alone", 1, 3),  # in Table 6 only
}
VERDICTS = {
    "shown": "the order shows",
    "reversed": "the reverse shows",
    "noise": "drowned in noise",
    "equal": "equal in the paper",
}


class Numbers:
    """The results of a folder, ready to compare.

    Args:
        results, speed: lines of the two CSV files.
    """

    def __init__(self, results, speed=()):
        self._lines = collections.defaultdict(dict)
        for line in results:
            self._lines[line["row"]][int(line["seed"])] = line
        self.speed = {line["row"]: line for line in speed}

    def of(self, row, metric):
        """{seed: number} of a row; numbers that were not to be had (-1, NaN) are left out."""
        found = {seed: _number(line[metric]) for seed, line in sorted(self._lines[row].items())}
        return {seed: value for seed, value in found.items() if value is not None}

    def compare(self, row, other, metric):
        """The `PairedTest` of two rows over the seeds that both have; None without any."""
        ours, theirs = self.of(row, metric), self.of(other, metric)
        seeds = [seed for seed in ours if seed in theirs]
        if not seeds:
            return None
        return paired_test([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def _number(text):
    value = float(text) if text else math.nan
    return None if math.isnan(value) or value == -1 else value


def write_report(folder):
    """Writes the tables of a `ResultsFolder` to a Markdown file in it; returns its path."""
    numbers = Numbers(folder.results.read(), folder.speed.read())
    path = folder.path / FILE
    with written_whole(path) as temporary:
        temporary.write_text(report(numbers, folder.setup), encoding="utf-8")
    return path


def report(numbers, setup):
    """The Markdown of `Numbers` of a `Setup`."""
    parts = ["# The paper's tables, trained here", _setup_text(numbers, setup)]
    orders = []
    for table in TABLES.values():
        timed = table.has_speed and any(row in numbers.speed for row in table.rows)
        if not timed and not any(numbers.of(row, "AP") for row in table.rows):
            continue
        found = compare_all(numbers, table)
        orders += found
        parts += [f"## Table {table.number}: {table.title}", _table(numbers, table)]
        if table.number == 8:
            parts += [_costs(numbers, table)]
        parts += [_orders(found, table), _together(numbers, found)] if found else []
    parts.insert(2, _summary(orders))
    return "\n\n".join(part for part in parts if part) + "\n"


# === What the numbers say ===


def compare_all(numbers, table):
    """The orders of a table: dictionaries of its "table", "row", "other", the difference in the
    "paper", the "test", its "p" and the "verdict".

    "p" is that of the paired t-test, corrected for the number of orders in the table (Holm).
    """
    found = []
    for row, other in table.orders:
        test = numbers.compare(row, other, table.metric)
        if test is not None:
            paper = table.in_paper(row, other)
            order = {"table": table, "row": row, "other": other, "paper": paper, "test": test}
            found.append(order)
    for order, p in zip(found, holm([order["test"].p for order in found])):
        order["p"] = p
        order["verdict"] = verdict(order["paper"], order["test"].difference, p)
    return found


def verdict(paper, difference, p):
    """One of `VERDICTS` for an order of the paper."""
    if paper == 0:
        return "equal"
    if p > LEVEL:
        return "noise"
    return "shown" if paper is None or paper * difference > 0 else "reversed"


def _summary(orders):
    counts = collections.Counter(order["verdict"] for order in orders)
    total = sum(counts[name] for name in ("shown", "reversed", "noise"))
    lines = [
        f"Of {total} orders in the paper's tables, {counts['shown']} show here, "
        f"{counts['reversed']} are reversed and {counts['noise']} drown in noise: a paired t-test "
        f"over the seeds, p below {LEVEL} after Holm's correction for the orders of a table. The "
        "exact p is that of the sign-flip permutation test of the same pairs, uncorrected; of n "
        "pairs it is never below 2 / 2^n, so that three seeds can only say so much."
    ]
    lines += [
        f"- {VERDICTS[name]}: Table {order['table'].number}, {_pair(order)}, "
        f"{_difference(order)} ({order['test'].pairs} seeds, p {_p(order['p'])})."
        for name in ("shown", "reversed")
        for order in orders
        if order["verdict"] == name
    ]
    return "\n".join([lines[0], "", *lines[1:]]).strip()


# === Markdown ===


def _markdown(headings, lines):
    rule = ["---"] * len(headings)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headings, rule, *lines))


def _shown(value, metric, signed=False):
    _, factor, decimals = METRICS[metric]
    return f"{factor * value:{'+' if signed else ''}.{decimals}f}"


def _mean(numbers, row, metric):
    values = list(numbers.of(row, metric).values())
    if not values:
        return "-"
    mean, spread = mean_and_spread(values)
    text = _shown(mean, metric)
    return text if spread is None else f"{text} ± {_shown(spread, metric)}"


def _table(numbers, table):
    papers = [
        name
        for name in ("AP", "correlation", "images_per_second")
        if any(name in line.paper for line in table.lines)
    ]
    titles = {"images_per_second": "images/s"}
    metrics = [m for m in METRICS if m != "correlation_quality" or table.metric == "correlation"]
    headings = ["", "seeds", *(METRICS[metric][0] for metric in metrics)]
    headings += [f"paper: {titles.get(name, name)}" for name in papers]
    lines = []
    for line in table.lines:
        cells = [line.label, str(len(numbers.of(line.row, "AP")))]
        cells += [_mean(numbers, line.row, metric) for metric in metrics]
        cells += [str(line.paper.get(name, "")) for name in papers]
        lines.append(cells)
    text = _markdown(headings, lines)
    if table.has_speed and any(row in numbers.speed for row in table.rows):
        text += "\n\n" + _speed(numbers, table)
    agreement = _agreement(numbers, table)
    return text + (f"\n\n{agreement}" if agreement else "")


def _speed(numbers, table):
    lines = []
    for line in table.lines:
        found = numbers.speed.get(line.row)
        if found:
            cells = [line.label, found["images_per_second"], found["inference_ratio"]]
            lines.append([*cells, found["training_ms"], found["training_ratio"]])
    headings = ["", "images/s", "time / GFLV2's", "training step, ms", "time / GFLV2's"]
    return _markdown(headings, lines)


def _agreement(numbers, table):
    pairs = []
    for line in table.lines:
        values = list(numbers.of(line.row, table.metric).values())
        if values and table.metric in line.paper:
            pairs.append((mean_and_spread(values)[0], line.paper[table.metric]))
    if len(pairs) < 4:
        return ""
    tau = rank_agreement(*zip(*pairs))
    return (
        f"Agreement of the order of the {len(pairs)} means with the paper's: Kendall's tau "
        f"{tau:+.2f} (1 for the same order, 0 for none in common)."
    )


def _costs(numbers, table):
    lines = []
    for line in table.lines:
        seconds = list(numbers.of(line.row, "seconds").values())
        if seconds:
            mean, spread = mean_and_spread(seconds)
            text = f"{mean:.0f}" + ("" if spread is None else f" ± {spread:.0f}")
            lines.append([line.label, text, str(line.paper["hours"])])
    if not lines:
        return ""
    return _markdown(["", "seconds of training", "paper: hours on 8 GPUs"], lines)


def _orders(found, table):
    lines = []
    for order in found:
        test, paper = order["test"], order["paper"]
        interval = "-"
        if math.isfinite(test.low):
            ends = (_shown(end, table.metric, signed=True) for end in (test.low, test.high))
            interval = " to ".join(ends)
        lines.append(
            [
                _pair(order),
                "" if paper is None else f"{paper:+g}",
                _shown(test.difference, table.metric, signed=True),
                interval,
                _p(order["p"]),
                "-" if test.exact_p is None else _p(test.exact_p),
                str(test.pairs),
                VERDICTS[order["verdict"]],
            ]
        )
    name = METRICS[table.metric][0]
    headings = [f"difference of {name}", "paper", "here", "95 % interval", "p (t, Holm)"]
    return _markdown([*headings, "exact p", "seeds", "verdict"], lines)


def _together(numbers, found):
    """What orders without a common row say together: the mean of their differences, by seeds."""
    rows = [order[side] for order in found for side in ("row", "other")]
    if len(found) < 2 or len(set(rows)) < len(rows):
        return ""
    metric = found[0]["table"].metric
    seeds = sorted(set.intersection(*(set(numbers.of(row, metric)) for row in rows)))
    if not seeds:
        return ""
    sides = (
        [
            statistics.mean(numbers.of(order[side], metric)[seed] for order in found)
            for seed in seeds
        ]
        for side in ("row", "other")
    )
    test = paired_test(*sides)
    text = f"{METRICS[metric][0]} {_shown(test.difference, metric, signed=True)}"
    if test.pairs > 1:
        ends = " to ".join(_shown(end, metric, signed=True) for end in (test.low, test.high))
        text += f" (95 % interval {ends}, p {_p(test.p)} in a paired t-test)"
    seeds = "one seed" if test.pairs == 1 else f"{test.pairs} seeds"
    return f"The mean of these {len(found)} differences: {text}, {seeds}."


def _pair(order):
    labels = {line.row: line.label for line in order["table"].lines}
    return f"{labels[order['row']]} over {labels[order['other']]}"


def _difference(order):
    metric, test = order["table"].metric, order["test"]
    shown = (_shown(value, metric, signed=True) for value in (test.difference, test.low, test.high))
    return "{} {} (95 % interval {} to {})".format(METRICS[metric][0], *shown)


def _p(p):
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _setup_text(numbers, setup):
    seconds = [value for row in numbers._lines for value in numbers.of(row, "seconds").values()]
    lines = [line for of_row in numbers._lines.values() for line in of_row.values()]
    environments = sorted(
        {f"{line['backend']}, Keras {line['keras']}, {line['cpu']}" for line in lines}
    )
    backbone = ", ".join(f"{name} {value}" for name, value in setup.backbone.items())
    sizes = ", ".join(f"{name} {value}" for name, value in setup.sizes.items())
    steps = sorted({line["steps"] for line in lines})
    return "\n".join(
        [
            "Written by `examples/reproduce.py report` from `results.csv` and `speed.csv` beside "
            "this file: do not edit. AP in percent, mean ± standard deviation over the seeds; the "
            "paper's is on COCO, with a ResNet-50 and the 1x schedule.",
            "",
            f"- Data: `{setup.data}`, evaluated on `{setup.validation_data}`, at "
            f"{setup.image_size[0]} x {setup.image_size[1]} pixels.",
            f"- Detector: ResNet with {backbone}; {sizes or 'the sizes of the paper'}.",
            f"- Schedule: recipe {setup.recipe}, {', '.join(steps) or 'no'} steps of "
            f"{setup.batch_size} images.",
            f"- {len(lines)} trainings, {sum(seconds) / 3600:.1f} hours of training in all "
            "(processes side by side count each).",
            *(f"- {environment}." for environment in environments),
        ]
    )
