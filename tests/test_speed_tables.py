"""The goals and the figure of `benchmarks/speed.py`, from rows as it writes them."""

import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module", autouse=True)
def scripts():
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    yield
    sys.path.pop(0)


def rows():
    def row(model, subject, part, ms, **more):
        return {
            "model": model,
            "batch": "1",
            "subject": subject,
            "part": part,
            "median_ms": ms,
            **more,
        }

    return [
        row("nano_bccd", "tensorflow", "network", "10"),
        row("nano_bccd", "tensorflow", "end to end", "11"),
        row("nano_bccd", "onnx", "end to end", "12.5"),
        row("r50_coco", "onnx", "end to end", "900", peak_mb="1300"),
        row("command line", "command line", "--help", "70"),
    ]


def test_goals_that_were_missed_are_marked():
    import speed_goals

    lines = speed_goals.table(rows()).splitlines()[2:]
    assert lines == [
        "| `nano_bccd`, 1 image, tensorflow: end to end / its network | 1.10 | 1.15 |",
        "| `nano_bccd`, 1 image, onnx: end to end / TensorFlow's network | 1.25 | 1.00 (missed) |",
        "| `r50_coco`, onnx: peak memory | 1300 MB | 1200 MB (missed) |",
        "| `keras-gflv2 --help` | 0.07 s | 0.30 s |",
    ]
    assert speed_goals.table([]) == ""


def test_the_figure_is_drawn(tmp_path):
    import speed_plot

    points = [
        {
            "group": "series",
            "model": f"nano_bccd, {kind}",
            "subject": "jax",
            "part": part,
            "median_ms": "1",
        }
        for kind, part in (
            ("pixels", "64x64"),
            ("boxes", "5"),
            ("candidates", "10"),
            ("locations", "96x64"),
        )
    ]
    speed_plot.draw(points, tmp_path / "speed.svg")
    text = (tmp_path / "speed.svg").read_text()
    assert "</svg>" in text and len(text) < 200_000
    # 96x64 pixels: 12x8 cells of stride 8, and so on.
    assert speed_plot._position("locations", "96x64") == 96 + 24 + 6 + 2 + 1
    assert speed_plot._position("pixels", "96x64") == 96 * 64
