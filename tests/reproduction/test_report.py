"""Markdown from results: means, comparisons and verdicts."""

import numpy as np

from keras_gflv2.reproduction.report import Numbers, compare_all, report, verdict
from keras_gflv2.reproduction.results import ResultsFolder
from keras_gflv2.reproduction.setups import choose
from keras_gflv2.reproduction.tables import TABLES

SETUP = choose("voc:BCCD", small=True)


def results(**rows):
    """Lines of rows: {row: (APs of seeds 0, 1, ..., correlations)}."""
    return [
        {
            "row": row,
            "seed": str(seed),
            **dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm"), f"{ap:.5f}"),
            "APl": "-1.0",
            "correlation": f"{correlation:.5f}",
            "correlation_quality": "nan",
            "seconds": "60.0",
            "steps": "100",
            "backend": "tensorflow",
            "keras": "3",
            "cpu": "a processor",
        }
        for row, (aps, correlations) in rows.items()
        for seed, (ap, correlation) in enumerate(zip(aps, correlations))
    ]


def eight(mean, seed, spread=0.002):
    return mean + spread * np.random.default_rng(seed).normal(size=8)


LINES = results(
    gflv2=(eight(0.70, 0), eight(0.66, 1)),
    gflv1=(eight(0.68, 2), eight(0.66, 3)),
    atss=(eight(0.72, 4), eight(0.5, 5)),
)


def order(table, row, other):
    found = compare_all(Numbers(LINES), TABLES[table])
    return next(o for o in found if (o["row"], o["other"]) == (row, other))


def test_verdicts_follow_the_test_and_the_paper():
    assert order(4, "gflv2", "gflv1")["verdict"] == "shown"
    assert order(5, "gflv2", "atss")["verdict"] == "reversed"
    assert order(6, "gflv2", "gflv1")["verdict"] == "noise"
    assert verdict(0, 0.3, 0.001) == "equal"
    assert verdict(0.9, -0.3, 0.2) == "noise"


def test_p_values_are_corrected_for_the_orders_of_a_table():
    """Of Table 4's orders GFLV2 over GFLV1 alone has results, of Table 6's that of three rows."""
    alone = order(4, "gflv2", "gflv1")
    assert alone["p"] == alone["test"].p
    lines = results(
        gflv2=(eight(0.7, 0), eight(0.66, 1)),
        gflv1=(eight(0.7, 2), eight(0.659, 3)),
        **{"fcos+joint": (eight(0.7, 4), eight(0.657, 5))},
    )
    found = sorted(compare_all(Numbers(lines), TABLES[6]), key=lambda o: o["test"].p)
    assert len(found) == 2
    assert found[0]["p"] == 2 * found[0]["test"].p
    assert found[1]["p"] == max(found[0]["p"], found[1]["test"].p)


def test_only_seeds_that_both_have_are_compared():
    lines = [line for line in LINES if (line["row"], line["seed"]) != ("gflv1", "3")]
    numbers = Numbers(lines)
    assert numbers.compare("gflv2", "gflv1", "AP").pairs == 7
    assert numbers.compare("gflv2", "fcos", "AP") is None


def test_the_report_has_the_means_and_the_tests():
    text = report(Numbers(LINES), SETUP)
    values = np.array([float(line["AP"]) for line in LINES if line["row"] == "gflv1"])
    mean = f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1):.1f}"
    row = next(line for line in text.splitlines() if line.startswith("| GFLV1 | 8 |"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[2] == mean and cells[-1] == "40.2"
    assert cells[7] == "-"  # APl: no large object

    test = order(4, "gflv2", "gflv1")["test"]
    line = next(t for t in text.splitlines() if t.startswith("| decomposed over GFLV1 |"))
    assert f"| +0.9 | {100 * test.difference:+.1f} |" in line
    assert f"{100 * test.low:+.1f} to {100 * test.high:+.1f}" in line
    assert "| 8 | the order shows |" in line
    assert "## Table 8" in text and "24 trainings" in text


def test_the_report_of_one_seed_claims_nothing():
    lines = [line for line in LINES if line["seed"] == "0"]
    found = [o for table in TABLES.values() for o in compare_all(Numbers(lines), table)]
    assert found and {o["verdict"] for o in found} == {"noise"}
    assert "± " not in report(Numbers(lines), SETUP).replace("mean ± standard", "")


def test_the_report_follows_the_files(tmp_path):
    from keras_gflv2.reproduction.command import main

    folder = ResultsFolder(tmp_path)
    folder.use(SETUP)
    folder.results.add(LINES)
    folder.speed.add(
        [
            {
                "row": row,
                "images_per_second": 20,
                "inference_ratio": ratio,
                "training_ms": 50,
                "training_ratio": 1.0,
            }
            for row, ratio in (("gflv2", 1.0), ("gflv1", 0.987))
        ]
    )
    assert main(["report", "--output", str(tmp_path)]) == 0
    text = (tmp_path / "tables.md").read_text()
    assert "| GFLV1 | 20 | 0.987 | 50 | 1.0 |" in text
    assert text == report(Numbers(folder.results.read(), folder.speed.read()), SETUP)


def test_orders_without_a_common_row_are_also_tested_together():
    """By seeds 0.05 and 0.15: t = 0.1 / 0.05 with one degree of freedom, half a width of 0.635."""
    names = ("retinanet+dgqp", "retinanet", "fcos+dgqp", "fcos")
    aps = ([0.5, 0.6, 0.7], [0.4, 0.4], [0.5, 0.5], [0.5, 0.4])
    lines = results(**{name: (ap, ap) for name, ap in zip(names, aps)})
    text = report(Numbers(lines), SETUP)
    assert (
        "The mean of these 2 differences: AP +10.0 (95 % interval -53.5 to +73.5, p 0.295 in a "
        "paired t-test), 2 seeds."
    ) in text
    assert text.count("The mean of these") == 1  # the orders of other tables share rows
