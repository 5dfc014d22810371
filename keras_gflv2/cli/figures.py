"""`keras-gflv2 figures`: the figures of the paper, of any detector and any data."""

import pathlib

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_validation_fraction,
    add_verbose,
    fraction,
    positive_int,
)
from keras_gflv2.cli.progress import progress
from keras_gflv2.cli.sources import DATA_HELP, evaluation_data, load_model

NAME = "figures"
HELP = "draw the figures of the paper: what the distributions of a detector know"
FIGURES = {
    "1b": "mean top-1 probability against IoU",
    "1cd": "a sharp and a flat box, with their distributions",
    "3": "what the quality is read off",
    "6": "speed against AP",
    "7": "boxes before and after NMS",
    "8": "loss on the quality in training",
}
OF_MODEL = ("1b", "1cd", "3", "7")


def add_arguments(parser):
    add_model(parser, required=False)
    parser.add_argument("--data", help=f"images with objects, for {_names(OF_MODEL)}: {DATA_HELP}")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where pictures go")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=FIGURES,
        metavar="FIGURE",
        help="which: " + "; ".join(f"{name} ({text})" for name, text in FIGURES.items())
        + "; if not given, all whose data is given",
    )  # fmt: skip
    parser.add_argument(
        "--results",
        metavar="FILE.csv",
        help="for 6: a table with the columns AP, milliseconds or images_per_second, one that "
        "names lines (method, detector, format, model or row) and, optionally, one that names "
        "points (backbone, precision, runtime, size or seed)",
    )
    parser.add_argument(
        "--logs",
        nargs="+",
        metavar="NAME=LOG.csv",
        help="for 8: the log.csv of trainings of GFLV1 and GFLV2, e.g. GFLV1=runs/1/log.csv",
    )
    parser.add_argument(
        "--of",
        choices=("positives", "detections"),
        default="positives",
        help="for 1b: the locations that answer for objects in training, or what NMS leaves",
    )
    parser.add_argument(
        "--examples", type=positive_int, default=1, help="for 1cd, 3 and 7: of each kind"
    )
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        default=0.3,
        help="for 1cd and 3: leave out detections below; 0 to 1",
    )
    parser.add_argument(
        "--format", choices=("png", "webp", "pdf", "svg"), default="png", help="of the pictures"
    )
    parser.add_argument("--batch-size", type=positive_int, default=8, help="images a step")
    add_validation_fraction(parser)
    add_image_size(parser)
    add_verbose(parser)


def run(arguments):
    """Writes one picture a figure and says what it shows."""
    chosen = _chosen(arguments)
    logs = _logs(arguments.logs or [])
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    scenes = _scenes(arguments) if set(chosen) & set(OF_MODEL) else None
    for position, name in enumerate(chosen):
        arguments.when_interrupted = _go_on(chosen[:position], chosen[position:], output)
        if name in OF_MODEL:
            scenes.what = f"figure {name}"
        path = output / f"figure_{name}.{arguments.format}"
        if name == "6":
            told = _draw_6(arguments.results, path)
        elif name == "8":
            told = _draw_8(logs, path)
        else:
            told = DRAW[name](scenes, arguments, path)
        print(f"Figure {name}: {told}. Wrote {path}")


def _chosen(arguments):
    """Names of the figures to draw; a ValueError if something for one of them is missing."""
    needs = dict.fromkeys(OF_MODEL, ("--model", "--data"))
    needs |= {"6": ("--results",), "8": ("--logs",)}
    lacks = {
        name: [option for option in options if not getattr(arguments, option[2:])]
        for name, options in needs.items()
    }
    if arguments.only:
        for name in arguments.only:
            if lacks[name]:
                raise ValueError(f"Figure {name} needs {' and '.join(lacks[name])}.")
        return list(dict.fromkeys(arguments.only))
    chosen = [name for name in FIGURES if not lacks[name]]
    if not chosen:
        raise ValueError(
            f"Nothing to draw: --model and --data are for the figures {_names(OF_MODEL)}, "
            "--results for 6, --logs for 8."
        )
    return chosen


def _logs(texts):
    """{name: path} of NAME=LOG.csv."""
    logs = {}
    for text in texts:
        name, is_named, path = text.partition("=")
        if not is_named or not name or not path:
            raise ValueError(f"--logs {text!r}: expected NAME=LOG.csv, e.g. GFLV1=runs/1/log.csv")
        logs[name] = path
    return logs


def _go_on(done, left, output):
    """What an interruption leaves behind, and how to go on."""
    kept = f"; figures {_names(done)} are in {output}" if done else "; nothing was written"
    return f"{kept}. For the others run the same command with --only {' '.join(left)}"


def _scenes(arguments):
    from keras_gflv2.visualization.figures import scenes_of

    model = load_model(arguments.model)
    dataset = evaluation_data(arguments.data, model, arguments)
    total = getattr(dataset, "num_images", None)
    return Scenes(lambda: scenes_of(model, dataset), total, arguments.verbose)


class Scenes:
    """An iterable that runs the detector anew each time: a dataset need not fit into memory.

    Attributes:
        what: what a progress bar says that the scenes are for.
    """

    def __init__(self, run, total, verbose):
        self._run, self._total, self._verbose = run, total, verbose
        self.what = "scenes"

    def __iter__(self):
        return iter(progress(self._run(), self._verbose, self.what, self._total))


def _draw_1b(scenes, arguments, path):
    from keras_gflv2.visualization import figures

    data = figures.quality_scatter(scenes, arguments.of)
    figures.draw_quality_scatter(data, path)
    return f"correlation {data['correlation']:.3f} over {len(data['iou'])} {data['of']}"


def _draw_1cd(scenes, arguments, path):
    from keras_gflv2.visualization import figures

    examples = figures.side_distributions(scenes, arguments.examples, arguments.score_threshold)
    figures.draw_side_distributions(examples, path)
    return _top_1(examples)


def _draw_3(scenes, arguments, path):
    from keras_gflv2.visualization import figures

    examples = figures.side_distributions(scenes, arguments.examples, arguments.score_threshold)
    figures.draw_statistics(examples, path)
    return _top_1(examples)


def _draw_7(scenes, arguments, path):
    from keras_gflv2.visualization import figures

    data = figures.suppression(scenes, arguments.examples)
    figures.draw_suppression(data, path)
    return (
        f"mean IoU of the first boxes of {data['num_objects']} objects {data['iou_joint']:.4f}, "
        f"{data['iou_class']:.4f} by the class score alone"
    )


DRAW = {"1b": _draw_1b, "1cd": _draw_1cd, "3": _draw_3, "7": _draw_7}


def _draw_6(results, path):
    from keras_gflv2.visualization import figures

    points = figures.speed_accuracy(results)
    figures.draw_speed_accuracy(points, path)
    return f"{len(points)} points"


def _draw_8(logs, path):
    from keras_gflv2.visualization import figures

    curves = figures.quality_losses(logs)
    figures.draw_quality_loss(curves, path)
    return ", ".join(f"{name} {curve['loss'][-1]:.4f}" for name, curve in curves.items())


def _top_1(examples):
    return "mean top-1 " + ", ".join(f"{e['kind']} {e['top_1']:.2f}" for e in examples)


def _names(figures):
    *first, last = figures
    return f"{', '.join(first)} and {last}" if first else last
