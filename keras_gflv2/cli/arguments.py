"""Arguments and files that several subcommands share."""

import argparse
import json
import math
import re

from keras_gflv2.files import written_whole


def add_model(parser, required=True):
    parser.add_argument(
        "--model",
        required=required,
        help="a .keras file, a folder that train wrote (its best model is taken), a preset's "
        "folder or a preset's name",
    )


def add_image_size(parser):
    parser.add_argument(
        "--image-size",
        type=positive_int,
        nargs=2,
        metavar=("SHORT", "LONG"),
        help="images are resized until their short side is SHORT or their long side LONG, "
        "whichever comes first; if not given, the model's own (800 1333 for a new one)",
    )


def add_validation_fraction(parser, text="score only the images that train kept out with it"):
    parser.add_argument(
        "--validation-fraction",
        type=fraction,
        metavar="PART",
        help=f"{text}; which ones follows from a hash of their names, e.g. 0.2",
    )


def add_views(parser):
    parser.add_argument(
        "--tta",
        type=scales,
        metavar="SCALES",
        help="test-time augmentation: look at each image at these sizes, and in the mirror; "
        "e.g. 0.75,1,1.25",
    )
    parser.add_argument(
        "--box-voting",
        action="store_true",
        help="with --tta: a box becomes the mean of the boxes around it",
    )


def add_max_megapixels(parser):
    parser.add_argument(
        "--max-megapixels",
        type=positive_float,
        default=64.0,
        help="refuse images with more million pixels: a small file can declare any size",
    )


def add_verbose(parser):
    parser.add_argument(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        default=1,
        help="0 for results alone, 1 for progress bars, 2 for a line an epoch instead and for what "
        "TensorFlow, XLA and CUDA say",
    )


def flag(name):
    return "--" + name.replace("_", "-")


def positive_int(text):
    """Type of an argument: an int of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return int(text)


def sides(text):
    """Type of an argument: a tuple of two sides in pixels as in 240x320, or of one."""
    found = tuple(int(side) if side.isdigit() else 0 for side in text.split("x"))
    if min(found) < 1 or len(found) > 2:
        raise argparse.ArgumentTypeError(f"must be like 240x320, got {text!r}")
    return found


def positive_float(text):
    """Type of an argument: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def duration(text):
    """Type of an argument: seconds, from 8h, 90m, 1h30m or a number of minutes."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    try:
        if not found:
            return 60.0 * positive_float(text)
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return positive_float(str(3600 * hours + 60 * minutes + seconds))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be like 8h, 90m or 1h30m, or a number of minutes, got {text!r}"
        ) from None


def fraction(text):
    """Type of an argument: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:  # NaN neither
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def scales(text):
    """Type of an argument: positive numbers with commas between them."""
    try:
        values = tuple(float(value) for value in text.split(","))
    except ValueError:
        values = ()
    if not values or not min(values) > 0:
        raise argparse.ArgumentTypeError(f"must be numbers above 0 such as 0.75,1, got {text!r}")
    return values


def write_json(path, content, indent=2):
    """Writes a file that is there whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")
