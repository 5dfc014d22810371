"""What the last convolutions of a checkpoint tell of its detector."""

import dataclasses

import numpy as np

from keras_gflv2.checkpoints.errors import CheckpointError

TOWER_BIAS = "cls_convs.0.conv.bias"


@dataclasses.dataclass(frozen=True)
class Head:
    """Names of a head's last convolutions in checkpoints of one source.

    Attributes:
        detector: name of the detector.
        classes, boxes: the convolutions at the end of the two towers.
        quality: the first layer of what predicts the quality, None without.
        may_have_tower_bias: whether some files have a bias in the towers' convolutions.
    """

    detector: str
    classes: str
    boxes: str
    quality: str | None
    may_have_tower_bias: bool = False

    @property
    def has_distributions(self):
        """Whether its boxes are general distributions."""
        return "gfl" in self.boxes


def read_head(arrays, heads, prefix, channels):
    """Which detector a checkpoint is of, and the arguments that its head tells.

    Args:
        arrays: {name: array} of the checkpoint.
        heads: `Head`s to look for; the first that fits is taken.
        prefix: of their names in the checkpoint.
        channels: width of the preset's head. A file with a wider one is refused before a detector
            with its number of classes is built.

    Returns:
        Tuple of the name of the detector and a dictionary of its arguments.

    Raises:
        CheckpointError: the shapes are not those of a head.
    """
    found = [head for head in heads if f"{prefix}{head.classes}.weight" in arrays]
    # Without its quality where a file is not whole; what is missing is told as it is loaded.
    head = next((head for head in found if _has_quality(head, arrays, prefix)), found[0])
    key = f"{prefix}{head.classes}.weight"
    shape = np.shape(arrays[key])
    if len(shape) != 4 or not 0 < shape[1] <= channels or shape[2:] != (3, 3):
        raise CheckpointError(
            f"{key} has the shape {shape}, not (classes, {channels}, 3, 3) or a narrower one."
        )
    rows = shape[0]
    boxes = np.shape(arrays.get(f"{prefix}{head.boxes}.weight"))
    per_side = boxes[0] // 4 if boxes else 0
    if head.has_distributions:
        # The focal loss of GFLV1 works on logits; only GFLV2 has a background channel.
        arguments = {"num_classes": rows - (head.quality is not None)}
        if per_side > 1:
            arguments["reg_max"] = per_side - 1
    else:
        arguments = {"num_classes": rows // max(per_side, 1)}  # `per_side` anchors per cell
    if shape[1] < channels:
        arguments["head_channels"] = shape[1]
    if head.may_have_tower_bias:
        arguments["head_tower_bias"] = f"{prefix}{TOWER_BIAS}" in arrays
    if arguments["num_classes"] < 1:
        raise CheckpointError(f"{key} has no row of a class.")
    return head.detector, arguments


def _has_quality(head, arrays, prefix):
    return not head.quality or f"{prefix}{head.quality}.weight" in arrays
