"""The paper's tables as data: which rows they have, and the numbers that the paper gives.

AP is on COCO val with a ResNet-50 and the 1x schedule, in percent.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        row: name of the row in `rows.ROWS`.
        label: what the paper calls it.
        paper: {metric: number in the paper}, with the metrics "AP", "correlation",
            "images_per_second" and "hours".
    """

    row: str
    label: str
    paper: dict


@dataclasses.dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        number, title: the paper's.
        lines: tuple of `Line`.
        orders: pairs (row, other row) between which the paper's numbers say which is better.
        metric: the one by which they are compared.
    """

    number: int
    title: str
    lines: tuple
    orders: tuple
    metric: str = "AP"

    @property
    def rows(self):
        """Names of its rows, in its order."""
        return tuple(line.row for line in self.lines)

    @property
    def has_speed(self):
        """Whether the paper gives images per second."""
        return any("images_per_second" in line.paper for line in self.lines)

    def in_paper(self, row, other):
        """How much better a row is than another in the paper, by `metric`; None if it is silent."""
        values = {line.row: line.paper.get(self.metric) for line in self.lines}
        missing = values[row] is None or values[other] is None
        return None if missing else round(values[row] - values[other], 4)


def _lines(*lines):
    return tuple(Line(row, label, {"AP": ap, **more}) for row, label, ap, more in lines)


def _ap(row, label, ap, **more):
    return row, label, ap, more


def _all_against(reference, rows):
    """The orders of a reference and every other row whose number differs."""
    return tuple((reference, row) for row in rows)


STATISTICS = _lines(
    _ap("topk", "top-4 alone", 40.8),
    _ap("mean", "mean alone", 40.2),
    _ap("var", "variance alone", 40.3),
    _ap("gflv2", "top-4 and mean", 41.1),
    _ap("topk+var", "top-4 and variance", 40.9),
    _ap("topk+mean+var", "top-4, mean and variance", 40.9),
)
K_AND_P = _lines(
    _ap("gflv1", "k = 0 (GFLV1)", 40.2),
    _ap("k1", "k = 1, p = 64", 40.2),
    _ap("k2", "k = 2, p = 64", 40.9),
    _ap("k3", "k = 3, p = 64", 40.9),
    _ap("gflv2", "k = 4, p = 64", 41.1),
    _ap("k8", "k = 8, p = 64", 41.0),
    _ap("k16", "k = 16, p = 64", 40.8),
    _ap("p8", "k = 4, p = 8", 40.9),
    _ap("p16", "k = 4, p = 16", 40.8),
    _ap("p32", "k = 4, p = 32", 40.9),
    _ap("p128", "k = 4, p = 128", 40.9),
    _ap("p256", "k = 4, p = 256", 40.7),
)
FEATURES = _lines(
    _ap("atss+joint", "ATSS with QFL", 39.9, images_per_second=19.4),
    _ap("point", "(a) features at the point", 40.2),
    _ap("region", "(b) features of the region", 40.5, images_per_second=14.0),
    _ap("border", "(c) features of the dense border", 40.5),
    _ap("border-middle", "(d) features at the middles of the border", 40.6),
    _ap("border-extreme", "(e) features at the extreme points of the border", 40.6),
    _ap("star", "(f) features at a regular star", 40.7),
    _ap("deformable", "(g) features at deformable points", 40.8),
    _ap("gflv2", "statistics of the distributions", 41.1, images_per_second=19.4),
)
FORMS = _lines(
    _ap("gflv1", "GFLV1", 40.2),
    _ap("composed-16", "composed, d = 16", 40.5),
    _ap("composed-32", "composed, d = 32", 40.5),
    _ap("composed-64", "composed, d = 64", 40.7),
    _ap("composed-128", "composed, d = 128", 40.7),
    _ap("composed-256", "composed, d = 256", 40.7),
    _ap("gflv2", "decomposed", 41.1),
)
DETECTORS = _lines(
    _ap("retinanet", "RetinaNet", 36.5),
    _ap("retinanet+dgqp", "RetinaNet with GFLV2", 38.6),
    _ap("foveabox", "FoveaBox", 36.4),
    _ap("foveabox+dgqp", "FoveaBox with GFLV2", 38.5),
    _ap("fcos", "FCOS", 38.5),
    _ap("fcos+dgqp", "FCOS with GFLV2", 40.6),
    _ap("atss", "ATSS", 39.2),
    _ap("gflv2", "ATSS with GFLV2", 41.1),
)
CORRELATION = (
    Line("fcos+joint", "FCOS*", {"correlation": 0.624}),
    Line("atss+joint", "ATSS*", {"AP": 39.9, "correlation": 0.631}),
    Line("gflv1", "GFLV1", {"AP": 40.2, "correlation": 0.634}),
    Line("gflv2", "GFLV2", {"AP": 41.1, "correlation": 0.660}),
)
COST = _lines(
    _ap("atss", "ATSS", 39.2, hours=8.2, images_per_second=19.4),
    _ap("gflv1", "GFLV1", 40.2, hours=8.2, images_per_second=19.4),
    _ap("gflv2", "GFLV2", 41.1, hours=8.2, images_per_second=19.4),
)


def _others(lines, row="gflv2"):
    return [line.row for line in lines if line.row != row]


TABLES = {
    table.number: table
    for table in (
        Table(
            1,
            "Statistics of the distributions",
            STATISTICS,
            _all_against("gflv2", _others(STATISTICS)),
        ),
        Table(
            2,
            "How many of the largest values (k), and hidden channels (p)",
            K_AND_P,
            _all_against("gflv2", _others(K_AND_P)),
        ),
        Table(
            3,
            "What the quality is read from",
            FEATURES,
            tuple((row, "atss+joint") for row in _others(FEATURES, "atss+joint"))
            + (("gflv2", "deformable"),),
        ),
        Table(
            4,
            "Composed or decomposed form",
            FORMS,
            tuple((row, "gflv1") for row in _others(FORMS, "gflv1")) + (("gflv2", "composed-64"),),
        ),
        Table(
            5,
            "Any dense detector",
            DETECTORS,
            (
                ("retinanet+dgqp", "retinanet"),
                ("foveabox+dgqp", "foveabox"),
                ("fcos+dgqp", "fcos"),
                ("gflv2", "atss"),
            ),
        ),
        Table(
            6,
            "Correlation of the predicted quality with the real IoU",
            CORRELATION,
            _all_against("gflv2", _others(CORRELATION)) + (("gflv1", "atss+joint"),),
            metric="correlation",
        ),
        Table(
            8,
            "Time of training and inference",
            COST,
            orders=(),  # equal costs; AP is compared in the other tables
        ),
    )
}


def rows_of(tables):
    """Names of the rows of some tables, each once, in the order of the tables."""
    return list(dict.fromkeys(row for number in tables for row in TABLES[number].rows))
