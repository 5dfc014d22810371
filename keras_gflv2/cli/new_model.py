"""The detector that `train` builds where it starts from none: which one, and its sizes."""

import inspect

from keras_gflv2.cli import backbone
from keras_gflv2.cli.arguments import flag, positive_int

DETECTORS = {
    name.lower(): name for name in ("GFLV2", "GFLV1", "ATSS", "FCOS", "FoveaBox", "RetinaNet")
}
DEFAULT_DETECTOR = "gflv2"
# Default None: the detector's own.
SIZES = {
    "fpn_channels": (256, "width of the feature pyramid"),
    "head_channels": (256, "width of the head"),
    "head_depth": (4, "convolutions in each tower of the head"),
    "head_norm_groups": (
        None,
        "groups of the head's normalization, if it has one; divides --head-channels; 32 if not "
        "given",
    ),
    "reg_max": (None, "last bin of a side's distribution, where boxes have one; 16 if not given"),
}


def add_arguments(group):
    """Adds the options to a group of arguments of `train`."""
    group.add_argument(
        "--model",
        help="detector to start from: a preset, a folder of one, or a .keras file; without it one "
        "is built by the options below",
    )
    group.add_argument("--detector", choices=DETECTORS, help=f"its kind; {DEFAULT_DETECTOR} if not")
    group.add_argument(
        "--distribution-guided",
        action="store_true",
        help="give atss, fcos, foveabox or retinanet the boxes, the quality and the losses of "
        "GFLV2: the second row of their pairs in the paper's Table 5",
    )
    backbone.add_arguments(group)
    for name, (default, text) in SIZES.items():
        group.add_argument(flag(name), type=positive_int, default=default, help=text)


def check_arguments(arguments):
    """Raises ValueError for options that contradict each other, before any data is read."""
    chosen = arguments.detector or arguments.distribution_guided
    if arguments.model and chosen:
        raise ValueError(
            "--model says which detector it is: leave out --detector and --distribution-guided."
        )
    if arguments.distribution_guided and _name(arguments) in ("GFLV1", "GFLV2"):
        raise ValueError(
            f"--distribution-guided is for other detectors than {_name(arguments)}: GFLV2 is "
            "GFLV1 with it."
        )
    backbone.check_arguments(arguments)


def new_model(arguments, backbone, **classes):
    """A detector with fresh weights after its backbone.

    Args:
        arguments: of the command line.
        backbone: what `backbone.load` gives.
        **classes: constructor arguments that the data decides.
    """
    import keras_gflv2

    sizes = {name: getattr(arguments, name) for name in SIZES}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    detector = getattr(keras_gflv2, _name(arguments))
    known = inspect.signature(detector).parameters
    for name in sizes:
        if name not in known:
            raise ValueError(f"{flag(name)}: {detector.__name__} has no such size. Leave it out.")
    if arguments.distribution_guided:
        sizes["distribution_guided"] = True
    return detector(backbone, **classes, **sizes)


def _name(arguments):
    return DETECTORS[arguments.detector or DEFAULT_DETECTOR]
