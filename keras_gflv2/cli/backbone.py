"""What --backbone names: where the backbone of a new detector comes from."""

import argparse
import os
import pathlib

from keras_gflv2.cli.arguments import flag, positive_int
from keras_gflv2.cli.sources import load_model

DEPTHS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152)}
# The names of `backbones.presets`, which cannot be asked without importing Keras.
PRETRAINED = (
    *(f"{name}_imagenet" for name in DEPTHS),
    "resnext101_32x4d_imagenet",
    "res2net101_v1d_imagenet",
)
LIBRARIES = ("keras_cv:", "keras_hub:")
DEFAULT, DEFAULT_ARCHITECTURE = "resnet50_imagenet", "resnet50"
DEFAULT_CHANNELS = 64
# A detector learns its features from so many images; from fewer it should get them elsewhere.
FEW_IMAGES = 5000


def add_arguments(group):
    """Adds the options to a group of arguments of `train`."""
    group.add_argument(
        "--backbone",
        type=backbone,
        help=f"pretrained: {', '.join(PRETRAINED)}, keras_cv:NAME or keras_hub:NAME of those "
        "libraries, a .keras file, or the backbone of a preset's folder; from nothing: "
        f"{', '.join(DEPTHS)}. If not given, {DEFAULT} where its weights can be had, else "
        f"{DEFAULT_ARCHITECTURE}",
    )
    group.add_argument(
        "--backbone-weights",
        metavar="FILE",
        help=f"weights for one of {', '.join(DEPTHS)}: a .pth file with torchvision's names, or a "
        ".weights.h5 file",
    )
    group.add_argument(
        "--frozen-stages",
        type=int,
        choices=range(-1, 5),
        help="of a pretrained backbone: 0 for the stem, 1 for it and the first stage, ..., -1 for "
        "none; 1 if not given, as in the paper",
    )
    group.add_argument(
        "--base-channels",
        type=positive_int,
        default=DEFAULT_CHANNELS,
        help="channels of the first stage of a backbone from nothing; fewer make it narrow",
    )


def backbone(text):
    """Type of an argument: a name, or a path."""
    is_path = os.sep in text or text.endswith(".keras") or os.path.exists(text)
    if text in DEPTHS or text in PRETRAINED or text.startswith(LIBRARIES) or is_path:
        return text
    raise argparse.ArgumentTypeError(
        f"must be one of {', '.join((*DEPTHS, *PRETRAINED))}, keras_cv:NAME, keras_hub:NAME or a "
        f"path, got {text!r}"
    )


def is_pretrained(arguments):
    """Whether the backbone brings weights, and is no whole detector."""
    if arguments.model:
        return False
    return arguments.backbone not in (None, *DEPTHS) or bool(arguments.backbone_weights)


def check_arguments(arguments):
    """Raises ValueError for options that contradict each other."""
    if arguments.model and not arguments.resume:  # version 0.1 noted a backbone that it had not
        for name in ("backbone", "backbone_weights", "frozen_stages"):
            if getattr(arguments, name) is not None:
                raise ValueError(f"--model brings its backbone: leave out {flag(name)}.")
    if arguments.model:
        return
    if arguments.backbone_weights and arguments.backbone not in DEPTHS:
        raise ValueError(f"--backbone-weights needs --backbone, one of {', '.join(DEPTHS)}.")
    if arguments.base_channels != DEFAULT_CHANNELS and is_pretrained(arguments):
        raise ValueError("--base-channels is for a backbone from nothing: leave it out.")
    if arguments.frozen_stages is not None and not _may_be_pretrained(arguments):
        raise ValueError(
            "--frozen-stages is for a pretrained backbone: what starts from nothing must train."
        )


def load(arguments, load_weights=True):
    """The backbone of a new detector, and in `arguments.backbone` which one it is.

    Args:
        arguments: of the command line.
        load_weights: False where a state with all weights follows.
    """
    if arguments.backbone is None and _may_be_pretrained(arguments):
        return _load_default(arguments, load_weights)
    arguments.backbone = arguments.backbone or DEFAULT_ARCHITECTURE
    if not is_pretrained(arguments):
        return _from_nothing(arguments)
    from keras_gflv2 import backbones

    frozen_stages = _frozen_stages(arguments)
    name = arguments.backbone
    if name in PRETRAINED or name.startswith(LIBRARIES):
        return backbones.load_backbone(name, load_weights, frozen_stages)
    found = _from_weights(arguments, load_weights) if name in DEPTHS else _from_file(name)
    return backbones.as_pretrained(found, frozen_stages)


def advice(arguments, num_images):
    """What to say of a new detector whose backbone starts from nothing, on few images; or "".

    Args:
        arguments: of the command line.
        num_images: how many there are, None if unknown.
    """
    is_few = num_images is not None and num_images < FEW_IMAGES
    # Shapes are made to be learnt from nothing.
    if not is_few or is_pretrained(arguments) or arguments.data.startswith("shapes:"):
        return ""
    return (
        f"warning: {num_images} images are few for a detector that starts from nothing "
        f"(fewer than {FEW_IMAGES}). Start from --model, a detector (`keras-gflv2 presets`), or "
        f"from a pretrained --backbone such as {DEFAULT}."
    )


def _may_be_pretrained(arguments):
    return is_pretrained(arguments) or (
        arguments.backbone is None and arguments.base_channels == DEFAULT_CHANNELS
    )


def _frozen_stages(arguments):
    return 1 if arguments.frozen_stages is None else arguments.frozen_stages


def _load_default(arguments, load_weights):
    """ImageNet's weights, where they can be had."""
    from keras_gflv2 import backbones
    from keras_gflv2.checkpoints import DownloadError
    from keras_gflv2.replicas import process_position

    try:
        found = backbones.load_backbone(DEFAULT, load_weights, _frozen_stages(arguments))
    except DownloadError as error:
        if process_position()[1] > 1:  # one could have them, and another not
            raise
        reason = str(error).splitlines()[0]
        print(
            f"The backbone starts from nothing: the weights of {DEFAULT} cannot be had ({reason})"
        )
        arguments.backbone = DEFAULT_ARCHITECTURE
        arguments.frozen_stages = None
        return _from_nothing(arguments)
    arguments.backbone = DEFAULT
    print(f"The backbone starts from {DEFAULT}.")
    return found


def _from_nothing(arguments):
    import keras_gflv2

    return keras_gflv2.backbones.ResNet(
        depth=DEPTHS[arguments.backbone],
        base_channels=arguments.base_channels,
        batch_norm_statistics="batch",  # no pretrained statistics to rely on
    )


def _from_weights(arguments, load_weights):
    """A ResNet with the weights of a file."""
    from keras_gflv2.backbones import ResNet
    from keras_gflv2.checkpoints import load_checkpoint

    depth, path = DEPTHS[arguments.backbone], pathlib.Path(arguments.backbone_weights)
    if not load_weights:
        return ResNet(depth)
    if not path.is_file():
        raise FileNotFoundError(f"--backbone-weights {path} does not exist.")
    if path.name.endswith(".weights.h5"):
        return _from_keras_weights(depth, path)
    return load_checkpoint(ResNet(depth), path)


def _from_keras_weights(depth, path):
    from keras_gflv2.backbones import ResNet
    from keras_gflv2.checkpoints.weight_files import check_weight_file

    check_weight_file(path)
    # The two have layers of two classes, by which Keras names the weights in a file.
    for statistics in ("running", "batch"):
        model = ResNet(depth, batch_norm_statistics=statistics)
        try:
            model.load_weights(path)
            return model
        except ValueError as error:
            problem = error
    reason = str(problem).splitlines()[0]
    raise ValueError(f"{path} has no weights of a ResNet-{depth} ({reason}).")


def _from_file(name):
    """The backbone of a file or folder: a model of its own, or that of a detector."""
    from keras_gflv2 import DenseDetector
    from keras_gflv2.checkpoints.keras_files import load_keras_file

    path = pathlib.Path(name)
    if not path.exists():
        raise FileNotFoundError(f"--backbone {path} does not exist.")
    found = load_model(name) if path.is_dir() else load_keras_file(path, compile=False)
    return found.backbone if isinstance(found, DenseDetector) else found
