"""Someone's weight file in, a preset folder out."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np

from keras_gflv2.annotations import PathLike
from keras_gflv2.checkpoints import mmdetection, registry
from keras_gflv2.checkpoints.errors import CheckpointError
from keras_gflv2.checkpoints.heads import read_head
from keras_gflv2.checkpoints.load import find_source, load_checkpoint
from keras_gflv2.checkpoints.presets import save_to_directory
from keras_gflv2.checkpoints.reading import read_checkpoint

# layer3.0.conv2.conv_offset.weight, or of Res2Net layer3.0.convs.0.conv_offset.weight
OFFSET = re.compile(r"backbone\.layer([1-4])\..*\.conv_offset\.weight$")
MODULATED_CHANNELS = 27  # of a 3x3 convolution: 9 taps x (y, x, mask)
# Sizes that are the first axis of a tensor, in the plain stem or in that of ResNet-D.
WIDTHS = {
    "fpn_channels": ("neck.lateral_convs.0.conv.weight",),
    "base_channels": ("backbone.conv1.weight", "backbone.stem.6.weight"),
}
TOWER = re.compile(r"bbox_head\.cls_convs\.\d+\.conv\.weight$")
# What one preset stands for, as they differ in the quality predictor alone.
INTERCHANGEABLE = {"GFLV1", "GFLV2"}


def convert(
    source: PathLike,
    preset: str,
    output_dir: PathLike,
    class_names: Sequence[str] | None = None,
    head_norm_groups: int | None = None,
) -> str:
    """Converts a weight file of mmdetection or PaddleDetection to a preset folder.

    The file may be a training of one's own: the number of classes, the last bin of the
    distributions, whether there is a quality predictor (GFLV2) or not (GFLV1), which stages are
    deformable, and how much narrower than the preset the network is (mmdetection's `base_channels`,
    `out_channels` of the FPN, `feat_channels` and `stacked_convs`) are read off the file.

    Args:
        source: path of the file.
        preset: name of the built-in preset of the same network, e.g. "r50_coco".
        output_dir: folder to write, for `from_preset(output_dir)` of the detector.
        class_names: names of the classes; by default COCO's if there are 80.
        head_norm_groups: groups of the head's normalization, which no file tells; those of the
            preset by default. With another number than in the training, scores are wrong.

    Returns:
        Path of the folder.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the preset.
        ValueError: there is no such preset.
    """
    record = registry.find(preset)
    arrays = read_checkpoint(source)
    try:
        detector, arguments, backbone_arguments = read_arguments(arrays, record)
        if detector != record.detector:
            if not {detector, record.detector} <= INTERCHANGEABLE:
                raise CheckpointError(f"It is of {detector}, the preset of {record.detector}.")
            record = dataclasses.replace(record, detector=detector)
        if head_norm_groups is not None:
            arguments["head_norm_groups"] = head_norm_groups
        if class_names is not None:
            arguments["class_names"] = list(class_names)
            if len(arguments["class_names"]) != arguments["num_classes"]:
                raise ValueError(
                    f"`class_names` has {len(arguments['class_names'])} names, but {source} has "
                    f"{arguments['num_classes']} classes."
                )
        model = record.build(backbone_arguments=backbone_arguments, **arguments)
        load_checkpoint(model, arrays)
    except CheckpointError as error:
        raise CheckpointError(f"{source} is not a checkpoint of {preset!r}. {error}") from None
    return save_to_directory(model, output_dir)


def read_arguments(arrays, record):
    """What a checkpoint tells of its network.

    Args:
        arrays: {name: array} of the checkpoint.
        record: the preset, for `head_channels` (see `read_head`) and its other `sizes`.

    Returns:
        Tuple of the name of the detector, its arguments, and those of the backbone.

    Raises:
        CheckpointError: it is not the checkpoint of a detector.
    """
    names = find_source(arrays)
    if not names.HEADS:
        raise CheckpointError(f"It is {names.SOURCE}, not a detector.")
    channels = record.sizes["head_channels"]
    detector, arguments = read_head(arrays, names.HEADS, names.PREFIX, channels)
    if names is not mmdetection:
        return detector, arguments, {}
    of_backbone = read_deformable_stages(arrays)
    for name, size in read_smaller_sizes(arrays, record.sizes).items():
        (of_backbone if name == "base_channels" else arguments)[name] = size
    return detector, arguments, of_backbone


def read_smaller_sizes(arrays, most):
    """{argument: size} where mmdetection's file has less than the preset, `most`.

    A file with more is told from the preset by its shapes, before anything of its size is built.
    """
    found = {"head_depth": sum(1 for key in arrays if TOWER.match(key))}
    for name, keys in WIDTHS.items():
        shapes = (np.shape(arrays[key]) for key in keys if key in arrays)
        found[name] = next((shape[0] for shape in shapes if len(shape) == 4), 0)
    return {name: size for name, size in found.items() if 0 < size < most[name]}


def read_deformable_stages(arrays):
    """Which stages of mmdetection's backbone are deformable, and in which version."""
    offsets = {key: value for key, value in arrays.items() if OFFSET.match(key)}
    stages = {int(OFFSET.match(key).group(1)) for key in offsets}
    arguments = {"deformable_stages": tuple(sorted(stages))}
    if stages:
        modulated = any(np.shape(v)[:1] == (MODULATED_CHANNELS,) for v in offsets.values())
        arguments["deformable_version"] = 2 if modulated else 1
    return arguments
