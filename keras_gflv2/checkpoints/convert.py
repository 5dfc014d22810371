"""Someone's weight file in, a preset folder out."""

import inspect
import re

import numpy as np

from keras_gflv2.checkpoints import mmdetection, paddledetection
from keras_gflv2.checkpoints.errors import CheckpointError
from keras_gflv2.checkpoints.load import find_source, load_checkpoint
from keras_gflv2.checkpoints.presets import save_to_directory
from keras_gflv2.checkpoints.reading import read_checkpoint

# layer3.0.conv2.conv_offset.weight, or of Res2Net layer3.0.convs.0.conv_offset.weight
OFFSET = re.compile(r"backbone\.layer([1-4])\..*\.conv_offset\.weight$")
MODULATED_CHANNELS = 27  # of a 3x3 convolution: 9 taps x (y, x, mask)


def convert(source, preset, output_dir, class_names=None):
    """Converts a weight file of mmdetection or PaddleDetection to a preset folder.

    The file may be a training of one's own: the number of classes, whether there is a quality
    predictor (GFLV2) or not (GFLV1), and which stages are deformable are read off the file.

    Args:
        source: path of the file.
        preset: name of the built-in preset of the same network, e.g. "r50_coco".
        output_dir: folder to write, for `GFLV2.from_preset(output_dir)`.
        class_names: names of the classes; by default COCO's if there are 80.

    Returns:
        Path of the folder.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the preset.
        ValueError: there is no such preset.
    """
    # Models import this package; only here it needs them.
    from keras_gflv2.models import GFLV2
    from keras_gflv2.models.zoo import DETECTORS

    if preset not in DETECTORS:
        raise ValueError(f"{preset!r} is none of the presets: {', '.join(DETECTORS)}.")
    arrays = read_checkpoint(source)
    defaults = inspect.signature(GFLV2).parameters
    channels = DETECTORS[preset].arguments.get("head_channels", defaults["head_channels"].default)
    try:
        arguments, backbone_arguments = read_arguments(arrays, channels)
        if class_names is not None:
            arguments["class_names"] = list(class_names)
            if len(arguments["class_names"]) != arguments["num_classes"]:
                raise ValueError(
                    f"`class_names` has {len(arguments['class_names'])} names, but {source} has "
                    f"{arguments['num_classes']} classes."
                )
        model = GFLV2(
            **DETECTORS[preset].constructor_arguments(
                backbone_arguments=backbone_arguments, **arguments
            )
        )
        load_checkpoint(model, arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{source} is not a checkpoint of {preset!r}. {error}") from None
    return save_to_directory(model, output_dir)


def read_arguments(arrays, head_channels):
    """What a checkpoint tells of its network: arguments of the detector, and of the backbone.

    Args:
        arrays: {name: array} of the checkpoint.
        head_channels: width of the detector's head; a file that has another one is refused before
            a detector with its number of classes is built.
    """
    names = find_source(arrays)
    if names not in (mmdetection, paddledetection):
        raise CheckpointError(f"It is {names.SOURCE}, not a detector.")
    # The first layer of the quality predictor tells GFLV2 from GFLV1, whose focal loss works on
    # logits and has no background channel.
    is_v2 = any(key in arrays for key in ("bbox_head.reg_conf.0.weight", QUALITY_OF_PADDLE))
    shape = np.shape(arrays[names.MARKER])
    if shape[1:] != (head_channels, 3, 3):
        raise CheckpointError(
            f"{names.MARKER} has the shape {shape}, not (classes, {head_channels}, 3, 3)."
        )
    arguments = {"num_classes": shape[0] - (1 if is_v2 else 0)}
    if arguments["num_classes"] < 1:
        raise CheckpointError(f"{names.MARKER} has no row of a class.")
    if not is_v2:
        arguments["quality_statistics"] = ()
    backbone_arguments = {}
    offsets = {key: value for key, value in arrays.items() if OFFSET.match(key)}
    if names is mmdetection:
        stages = {int(OFFSET.match(key).group(1)) for key in offsets}
        backbone_arguments["deformable_stages"] = tuple(sorted(stages))
        if any(np.shape(value)[:1] == (MODULATED_CHANNELS,) for value in offsets.values()):
            backbone_arguments["deformable_version"] = 2
    return arguments, backbone_arguments


QUALITY_OF_PADDLE = "head.dgqp_module.dgqp_reg_conv1.weight"
