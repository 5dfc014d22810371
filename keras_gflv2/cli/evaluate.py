"""`keras-gflv2 evaluate`: the COCO metrics of a detector on a dataset."""

import pathlib

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_validation_fraction,
    add_verbose,
    add_views,
    positive_int,
    write_json,
)
from keras_gflv2.cli.sources import DATA_HELP, evaluation_data, load_model, with_views

NAME = "evaluate"
HELP = "score a detector: COCO metrics"


def add_arguments(parser):
    add_model(parser)
    parser.add_argument("--data", required=True, help=f"images to score on: {DATA_HELP}")
    parser.add_argument("--batch-size", type=positive_int, default=8, help="images a step")
    add_validation_fraction(parser)
    add_image_size(parser)
    add_views(parser)
    parser.add_argument(
        "--output",
        metavar="FILE.json",
        help="write all detections here in COCO's results format, and the metrics next to it as "
        "FILE.metrics.json",
    )
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        help="write curves, errors and pictures of the worst ones here, as one page for a browser; "
        'needs the extra "report"',
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="RUN",
        help="with --report: other detectors beside it, each as --model names one (evaluated now "
        "on the same data), or a report of the same data (FILE.html)",
    )
    add_verbose(parser)


def run(arguments):
    """Prints the COCO metrics of a detector on a dataset."""
    from keras_gflv2.contract import class_names_of
    from keras_gflv2.evaluation import coco
    from keras_gflv2.evaluation.detections import category_ids_of, detect_dataset

    arguments.when_interrupted = "; nothing was written"
    _check_report(arguments)
    model = load_model(arguments.model)
    dataset = evaluation_data(arguments.data, model, arguments)
    detector = with_views(model, arguments)
    images = detect_dataset(detector, dataset, verbose=arguments.verbose)
    names = class_names_of(model, dataset)
    metrics = coco.coco_metrics(images, names, sizes=bool(arguments.report))
    print(format_metrics(metrics))
    if arguments.output:
        output = pathlib.Path(arguments.output)
        output.parent.mkdir(parents=True, exist_ok=True)
        results = coco.results_of(images, category_ids_of(model, dataset))
        write_json(output, results, indent=None)
        write_json(output.with_suffix(".metrics.json"), metrics)
        print(
            f"Wrote {len(results)} detections to {output} and the metrics to "
            f"{output.with_suffix('.metrics.json')}"
        )
    if arguments.report:
        _write_report(arguments, detector, dataset, images, metrics)
    if not (arguments.output or arguments.report):
        print("Nothing was written: --output FILE.json keeps detections and metrics.")


def _check_report(arguments):
    """Says what is missing before the evaluation, which may take hours."""
    if arguments.compare and not arguments.report:
        raise ValueError("--compare needs --report.")
    if arguments.report:
        from keras_gflv2 import reporting

        reporting.check_installed()
        if pathlib.Path(arguments.report).suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--report {arguments.report} must end in .html: it is a page.")


def _write_report(arguments, detector, dataset, images, metrics):
    from keras_gflv2 import reporting

    runs = [reporting.run_of(arguments.model, detector, dataset, images, metrics)]
    for other in arguments.compare or ():
        runs += _runs_to_compare(other, arguments)
    path = reporting.write_report(arguments.report, runs, arguments.data)
    print(f"Wrote the report to {path}")


def _runs_to_compare(spec, arguments):
    from keras_gflv2 import reporting
    from keras_gflv2.evaluation.detections import detect_dataset

    if pathlib.Path(spec).suffix.lower() in (".html", ".htm"):
        return reporting.read_report(spec)
    model = load_model(spec)
    dataset = evaluation_data(arguments.data, model, arguments)
    detector = with_views(model, arguments)
    images = detect_dataset(detector, dataset, verbose=arguments.verbose)
    return [reporting.run_of(spec, detector, dataset, images)]


def format_metrics(metrics):
    """The twelve numbers, those of all detections if there are more than COCO counts, and each
    class's AP as a table; "-" where there is nothing to find.
    """

    def cell(value):
        return "    -" if value == -1 else f"{value:.3f}"

    names = [name for name in metrics if not isinstance(metrics[name], dict)]
    lines = []
    for part in filter(None, (names[:6], names[6:12], names[12:])):
        width = max(5, *(len(name) for name in part))
        lines.append("  ".join(f"{name:>{width}}" for name in part))
        lines.append("  ".join(f"{cell(metrics[name]):>{width}}" for name in part))
    width = max(len("class"), *(len(name) for name in metrics["per_class"]))
    lines.append(f"{'class':<{width}}     AP   AP50")
    for name, value in metrics["per_class"].items():
        lines.append(f"{name:<{width}}  {cell(value)}  {cell(metrics['per_class_AP50'][name])}")
    return "\n".join(lines)
