"""The tables and the figure of docs/speed.md: this package beside plain PyTorch and KerasHub.

    python benchmarks/speed.py                  # about 15 minutes on two cores; --quick for a look
    python benchmarks/speed.py --pages          # writes the tables into the pages, measures nothing

Groups of measurements run one after another, and what was measured stands in benchmarks/speed.csv
after each: a run that was stopped goes on where it was (`--restart` measures its groups again).
The tables go to benchmarks/speed.md, the figure to docs/speed.svg; with another `--output`, both
beside it.
"""

import argparse
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

import speed_goals
import speed_plot

from keras_gflv2.benchmarking import machine, report, run, subjects
from keras_gflv2.benchmarking.turns import Subject, Worker, WorkerError, measure_in_turn

HERE = Path(__file__).parent
ROOT = HERE.parent
SHARED_PHOTOS = ROOT.parent / "shared" / "data" / "bccd"
OUTPUT, FIGURE = HERE / "speed.csv", ROOT / "docs" / "speed.svg"
BACKENDS = ("tensorflow", "jax", "torch")
FORMATS = ("saved_model", "onnx", "openvino", "litert")
PLAIN, PLAIN_COMPILED = "plain PyTorch", "plain PyTorch, torch.compile"
OWN_COMPILED, KERAS_HUB = "torch, torch.compile", "KerasHub RetinaNet, tensorflow"
MARKED = re.compile(r"(<!-- SPEED -->\n).*(<!-- /SPEED -->)", re.DOTALL)


class Plan:
    """Sizes and numbers of turns, and the prepared files, which are made when they are needed."""

    def __init__(self, quick, folder):
        self.large = (256, 320) if quick else (800, 1344)
        self.small = (240, 320)
        self.training = (2, (128, 128) if quick else (320, 320))
        self.repeat_large, self.repeat = (2, 2) if quick else (5, 10)
        self.batches = (1,) if quick else (1, 8)
        self.sides = (64, 128, 256) if quick else (64, 128, 256, 384, 512, 768, 1024)
        self.boxes = (5, 50) if quick else (5, 10, 20, 50, 100, 200, 400)
        self.candidates = (10, 100) if quick else (10, 30, 100, 300, 1000, 3000)
        self._folder, self._prepared = folder, {}

    def prepared(self, model, size, **options):
        """Folder of a detector and its exports, and what `prepare` says of it."""
        if model not in self._prepared:
            print(f"Preparing {model} and its exports.")
            folder = self._folder / model
            folder.mkdir()
            info = run.prepare(folder, model=model, sizes=[size], formats=FORMATS, **options)
            self._prepared[model] = folder, info
        return self._prepared[model]

    def large_detector(self):
        return self.prepared("r50_coco", self.large, fresh=True)

    def small_detector(self):
        photos = sorted(SHARED_PHOTOS.rglob("*.jpg"))
        return self.prepared("nano_bccd", self.small, image=str(photos[0]) if photos else None)


def other(name, function, parts, **arguments):
    """A subject of `speed_subjects`."""
    environment = {"PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    if not name.startswith("plain"):
        backend = next((b for b in BACKENDS if b in name), "tensorflow")
        environment["KERAS_BACKEND"] = backend
    return Subject(name, f"speed_subjects:{function}", arguments, tuple(parts), environment)


# === Groups ===


def large(plan):
    """r50 at 800x1344: the whole way and the network alone, beside other code."""
    folder, info = plan.large_detector()
    size = plan.large
    parts = (subjects.END_TO_END, subjects.NETWORK)
    where = {"folder": str(folder), "size": size}
    group = [
        other(PLAIN, "plain_pytorch", parts, **where),
        other(PLAIN_COMPILED, "plain_pytorch", parts, compiled=True, **where),
        *(
            run.detector_subject(b, (*parts, subjects.CONVOLUTION), folder, size, 1)
            for b in BACKENDS
        ),
        run.detector_subject("torch", parts, folder, size, 1, name=OWN_COMPILED, jit_compile=True),
        *(run.export_subject(format, folder, size, 1) for format in FORMATS),
    ]
    if machine.version("keras-hub"):
        group.append(other(KERAS_HUB, "keras_hub_retinanet", parts[:1], **where))
    common = {"model": "r50_coco", "size": named(size), "batch": 1}
    operations = next(iter(info["operations"].values()))
    return run.measure(group, plan.repeat_large, common, operations)


def training(plan):
    """A training step of r50, 20 boxes per image."""
    folder, _ = plan.large_detector()
    batch, size = plan.training
    part = (subjects.TRAINING,)
    group = [other(PLAIN, "plain_pytorch_training", part, size=size, batch=batch, boxes=20)]
    group += [
        run.detector_subject(b, part, folder, size, batch, boxes=20, noise=True) for b in BACKENDS
    ]
    common = {"model": "r50_coco, training", "size": named(size), "batch": batch}
    return run.measure(group, plan.repeat_large, common)


def small(plan):
    """The small detector by part, backend and export."""
    folder, info = plan.small_detector()
    operations = next(iter(info["operations"].values()))
    rows = []
    for batch in plan.batches:
        group = [
            run.detector_subject(b, run.INFERENCE_PARTS, folder, plan.small, batch)
            for b in BACKENDS
        ]
        formats = [f for f in FORMATS if f != "litert" or batch == 1]
        group += [run.export_subject(format, folder, plan.small, batch) for format in formats]
        common = {"model": "nano_bccd", "size": named(plan.small), "batch": batch}
        rows += run.measure(group, plan.repeat, common, operations)
    return rows


def photos(plan):
    """`detect` on photos of 22 sizes: the first pass, and the second."""
    folder, _ = plan.small_detector()
    common = {"model": "nano_bccd, detect", "size": "22 sizes", "batch": 22}
    rows = []
    for backend in BACKENDS:
        subject = other(f"{backend}", "photos", ["one photo"], folder=str(folder))
        try:
            worker = Worker(subject)
            compiling = worker.run("one photo")[0] - min(worker.run("one photo", 3))
            passes = worker.run("22 photos", 3)
            worker.close()
        except WorkerError as error:
            print(error)
            continue
        for part, seconds in (
            ("one compilation", compiling),
            ("first pass", passes[0]),
            ("second pass", statistics.median(passes[1:])),
        ):
            row = report.row_of({(backend, part): [seconds]}, backend, part, None, 22)
            rows.append({**common, **row, **machine.describe()})
            print(f"{backend}, {part}: {seconds:.3f} s")
    return rows


def start(plan):
    """How long `keras-gflv2 --help` takes."""
    subject = other("command line", "command_line", ["--help"])
    common = {"model": "command line", "size": "-", "batch": 1}
    return run.measure([subject], plan.repeat, common)


def series(plan):
    """What the figure shows: time against pixels, boxes, candidates and locations."""
    folder, _ = plan.small_detector()
    size = (256, 320)
    sizes = [(side, side) for side in plan.sides]
    kinds = {
        "pixels": ("pixels", {"sizes": sizes}, [named(s) for s in sizes]),
        "boxes": (
            "boxes",
            {"counts": plan.boxes, "size": size, "batch": 2},
            [str(c) for c in plan.boxes],
        ),
        "candidates": (
            "candidates",
            {"counts": plan.candidates, "size": (512, 640)},
            [str(c) for c in plan.candidates],
        ),
        "locations": ("locations", {"sizes": sizes, "count": 100}, [named(s) for s in sizes]),
    }
    rows = []
    for kind, (function, arguments, parts) in kinds.items():
        group = [
            other(backend, function, parts, folder=str(folder), **arguments) for backend in BACKENDS
        ]
        times, _ = measure_in_turn(group, max(plan.repeat // 3, 1))
        for (backend, part), _ in times.items():
            row = report.row_of(times, backend, part, None, 1)
            common = {"model": f"nano_bccd, {kind}", "size": part, "batch": 1}
            rows.append({**common, **row, **machine.describe()})
    return rows


GROUPS = {f.__name__: f for f in (start, large, training, small, photos, series)}


def named(size):
    return "x".join(map(str, size))


# === Files ===


def write_tables(rows, file, pages):
    """A file of Markdown; if asked for, docs/speed.md has the same and README.md one table."""
    if not rows:
        return
    shown = [row for row in rows if row["group"] in ("large", "training", "small")]
    parts = [speed_goals.table(rows)]
    if shown:
        parts += [report.markdown(shown), report.described(shown)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    file.write_text(text, encoding="utf-8")
    if pages:
        large = [row for row in shown if row["group"] == "large"]
        _write_between_marks(ROOT / "docs" / "speed.md", text)
        _write_between_marks(ROOT / "README.md", report.markdown(large) + "\n")
    print(text)


def _write_between_marks(page, text):
    content = page.read_text(encoding="utf-8")
    assert MARKED.search(content), f"{page} has no place for it"
    page.write_text(MARKED.sub(lambda m: m[1] + text + m[2], content), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and few turns")
    parser.add_argument("--restart", action="store_true", help="measure these groups again")
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--pages", action="store_true", help="write the pages; measure nothing")
    arguments = parser.parse_args()

    rows = report.read_csv(arguments.output)
    if arguments.restart:
        rows = [row for row in rows if row["group"] not in arguments.groups]
    if not arguments.pages:
        with tempfile.TemporaryDirectory() as folder:
            plan = Plan(arguments.quick, Path(folder))
            for name in arguments.groups:
                if any(row["group"] == name for row in rows):
                    print(f"{name}: measured already", file=sys.stderr)
                    continue
                rows += [{"group": name, **row} for row in GROUPS[name](plan)]
                report.write_csv(arguments.output, rows)
        rows = report.read_csv(arguments.output)
        is_final = arguments.output == OUTPUT
        speed_plot.draw(rows, FIGURE if is_final else arguments.output.with_suffix(".svg"))
    write_tables(rows, arguments.output.with_suffix(".md"), arguments.pages)


if __name__ == "__main__":
    main()
