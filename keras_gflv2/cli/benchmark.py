"""`keras-gflv2 benchmark`: time, memory and start-up of a detector, by backend and export."""

import argparse
import importlib.util
import pathlib
import tempfile

from keras_gflv2.cli.arguments import add_model, add_verbose, positive_int, sides
from keras_gflv2.cli.progress import progress
from keras_gflv2.cli.sources import model_path

NAME = "benchmark"
HELP = "measure time, memory and start-up of a detector: by part, backend, export, size and batch"
BACKENDS = ("tensorflow", "jax", "torch")
# Format: the module that runs it.
FORMATS = {
    "saved_model": "tensorflow",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "litert": "ai_edge_litert",
}


def add_arguments(parser):
    add_model(parser)
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="fresh weights for a preset, which takes no download; scores are spread so that NMS "
        "has as much to do as in a photo",
    )
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        default=("tensorflow",),
        help="each runs in a process of its own",
    )
    parser.add_argument(
        "--formats",
        nargs="+",
        choices=FORMATS,
        default=(),
        help="exports to measure beside them, each in its runtime",
    )
    parser.add_argument(
        "--size",
        nargs="+",
        type=size,
        default=((240, 320),),
        metavar="HxW",
        help="of the images; several are measured one after another",
    )
    parser.add_argument(
        "--image", metavar="FILE", help="a picture to look at, resized; noise if not given"
    )
    parser.add_argument(
        "--batch-size", nargs="+", type=positive_int, default=(1,), help="images of a call"
    )
    parser.add_argument("--train", action="store_true", help="measure a training step, too")
    parser.add_argument(
        "--boxes", type=positive_int, default=20, help="of each image in the training step"
    )
    parser.add_argument("--repeat", type=positive_int, default=10, help="turns of each")
    parser.add_argument(
        "--output", default="benchmark.csv", metavar="FILE.csv", help="where all rows are written"
    )
    add_verbose(parser)


def size(text):
    """Type of an argument: HEIGHTxWIDTH."""
    found = sides(text)
    if len(found) != 2:
        raise argparse.ArgumentTypeError(f"must be like 240x320, got {text!r}")
    return found


def size_name(size):
    return "x".join(map(str, size))


def run(arguments):
    """Measures, prints a table in Markdown and writes a CSV file."""
    from keras_gflv2.benchmarking import report
    from keras_gflv2.benchmarking.run import prepare

    for module, name in [(b, b) for b in arguments.backend] + [
        (FORMATS[format], format) for format in arguments.formats
    ]:
        if importlib.util.find_spec(module) is None:
            raise ImportError(f"{name} needs {module}: pip install 'keras-gflv2[{name}]'.")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        arguments.when_interrupted = "; nothing was measured yet"
        print("Preparing the detector and its exports.")
        info = prepare(
            folder,
            model=str(model_path(arguments.model)),
            sizes=[list(size) for size in arguments.size],
            formats=list(arguments.formats),
            fresh=arguments.fresh,
            image=arguments.image,
        )
        for size in arguments.size:
            for batch in arguments.batch_size:
                rows += _measure(arguments, folder, size, batch, info)
                report.write_csv(arguments.output, rows)
                arguments.when_interrupted = (
                    f"; {arguments.output} has what was measured, at last {size_name(size)} with "
                    f"{batch} images per call. Go on with the others and another --output"
                )
    if not rows:
        raise ValueError("Nothing could be measured; what went wrong is above.")
    print(f"\n{report.markdown(rows)}\n\n{_operations(info)}\n{report.described(rows)}")
    print(f"Wrote {arguments.output}")


def _measure(arguments, folder, size, batch, info):
    """Rows of one size and batch."""
    from keras_gflv2.benchmarking import run, subjects

    common = {"model": pathlib.Path(arguments.model).name, "size": size_name(size), "batch": batch}
    operations = info["operations"][size_name(size)]

    def count(turns):
        return progress(turns, arguments.verbose, f"{size_name(size)}, batch {batch}", unit="turn")

    parts = (*run.INFERENCE_PARTS, subjects.CONVOLUTION)
    group = [
        run.detector_subject(backend, parts, folder, size, batch) for backend in arguments.backend
    ]
    formats = [f for f in arguments.formats if f != "litert" or batch == 1]  # its file has B = 1
    group += [run.export_subject(format, folder, size, batch) for format in formats]
    rows = run.measure(group, arguments.repeat, common, operations, count=count)
    if arguments.train:
        group = [
            run.detector_subject(
                backend, [subjects.TRAINING], folder, size, batch, boxes=arguments.boxes
            )
            for backend in arguments.backend
        ]
        rows += run.measure(group, arguments.repeat, common, count=count)
    return rows


def _operations(info):
    return "\n".join(
        f"{size}: {operations / 1e9:.4g} GFLOP per image, {info['candidates'][size]} candidates "
        "of NMS."
        for size, operations in info["operations"].items()
    )
