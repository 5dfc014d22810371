"""`keras-gflv2 app`: a page to try a detector in a browser."""

import argparse
import pathlib

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_max_megapixels,
    add_model,
    add_verbose,
    fraction,
    positive_float,
)
from keras_gflv2.cli.errors import user_message
from keras_gflv2.cli.sources import load_model

NAME = "app"
HELP = "try a detector in a browser"


def add_arguments(parser):
    add_model(parser)
    parser.add_argument(
        "--examples",
        metavar="DIR",
        help="a folder whose images the page offers; no other file can be read through it",
    )
    parser.add_argument(
        "--score-threshold",
        type=fraction,
        default=0.3,
        help="show detections above, at first; 0 to 1, to be moved in the page",
    )
    parser.add_argument(
        "--coverage",
        type=fraction,
        help="tell intervals that hold the true sides with this probability, such as 0.9; for "
        "detectors of keras-gflv2 calibrate",
    )
    add_image_size(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at. The default is reached from this machine alone; at 0.0.0.0 "
        "everybody in the network can use the page, without a password",
    )
    parser.add_argument(
        "--port", type=_port, default=7860, help="port to listen at; 0 takes one that is free"
    )
    parser.add_argument(
        "--max-megabytes",
        type=positive_float,
        default=20.0,
        help="refuse files with more million bytes",
    )
    add_max_megapixels(parser)
    add_verbose(parser)


def _port(text):
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, got {text!r}")
    return int(text)


def run(arguments):
    """Serves the page until Ctrl-C."""
    from keras_gflv2 import images
    from keras_gflv2.app import serving

    # What can be wrong is told before the detector is loaded.
    serving.check_installed()
    images.MAX_PIXELS = round(arguments.max_megapixels * 1e6)
    with serving.listen(arguments.host, arguments.port) as opened:
        address = serving.address_of(opened, arguments.host)
        server = _server(arguments)
        print(f"Open {address} in a browser. Ctrl-C ends it.", flush=True)
        if not serving.is_local(arguments.host):
            print("Everybody who reaches this machine can use it, without a password.", flush=True)
        try:
            serving.serve(server, opened, arguments.verbose)
        finally:
            count = server.num_images
            looked = "1 image was" if count == 1 else f"{count} images were"
            arguments.when_interrupted = f": {address} is closed; {looked} looked at"


def _server(arguments):
    from keras_gflv2.app.examples import Examples
    from keras_gflv2.app.interactive_detector import InteractiveDetector
    from keras_gflv2.app.server import Server
    from keras_gflv2.app.serving import LOCAL, is_local

    examples = Examples(arguments.examples) if arguments.examples else None
    model = load_model(arguments.model)
    return Server(
        InteractiveDetector(model, arguments.image_size, arguments.coverage),
        pathlib.PurePath(arguments.model).name,
        arguments.score_threshold,
        examples,
        max_bytes=round(arguments.max_megabytes * 1e6),
        hosts={*LOCAL, arguments.host} if is_local(arguments.host) else None,
        explain=user_message,
    )
