"""Names in mmdetection's checkpoints of dense detectors: which tensor is which of ours.

What a detector's tensors are called follows from the parts of its head, not from its class: what
it predicts for a box, and whether there is a branch for the quality.
"""

import re

from keras_gflv2.checkpoints.errors import CheckpointError
from keras_gflv2.checkpoints.heads import Head

SOURCE = "mmdetection"
PREFIX = "bbox_head."
# Heads by what the last convolutions of a file are named; the first that fits.
HEADS = (
    Head("GFLV2", "gfl_cls", "gfl_reg", "reg_conf.0"),
    Head("GFLV1", "gfl_cls", "gfl_reg", None),
    Head("ATSS", "atss_cls", "atss_reg", "atss_centerness"),
    Head("RetinaNet", "retina_cls", "retina_reg", None),
    Head("FCOS", "conv_cls", "conv_reg", "conv_centerness", may_have_tower_bias=True),
    Head("FoveaBox", "conv_cls", "conv_reg", None),
)
# The same by the parts of a model: what its boxes are, and whether there is a quality.
PREDICTIONS = {
    ("box_distributions", True): HEADS[0],
    ("box_distributions", False): HEADS[1],
    ("box_deltas", True): HEADS[2],
    ("box_deltas", False): HEADS[3],
    ("box_distances", True): HEADS[4],
    ("box_distances", False): HEADS[5],
}
# A file of this source has one of these tensors, and no other file has any.
MARKERS = tuple({f"{PREFIX}{head.classes}.weight": None for head in HEADS})
# Tensors that may have a background channel at their end.
CLASSIFICATION = ("bbox_head.gfl_cls.weight", "bbox_head.gfl_cls.bias")
# Tensors that hold no weight: counters, and the constants 0..n of the integral.
NOT_WEIGHTS = re.compile(r"num_batches_tracked$|integral\.project$")

NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
CONV = {"kernel": "weight", "bias": "bias"}


def name_map(model):
    """[(their key, our variable)] for a dense detector with one of our backbones.

    Raises:
        CheckpointError: the head has a quality that mmdetection does not have.
    """
    pyramid, head = model.feature_pyramid, model.head
    pairs = backbone_name_map(model.backbone, "backbone.")
    for i, conv in enumerate(pyramid.lateral_convs):
        pairs += layer_names(f"neck.lateral_convs.{i}.conv", conv)
    for i, conv in enumerate([*pyramid.output_convs, *pyramid.extra_convs]):
        pairs += layer_names(f"neck.fpn_convs.{i}.conv", conv)
    for kind, layers in (
        ("cls_convs.{}.conv", head.classification_convs),
        ("cls_convs.{}.gn", head.classification_norms),
        ("reg_convs.{}.conv", head.box_convs),
        ("reg_convs.{}.gn", head.box_norms),
    ):
        for i, layer in enumerate(layers):
            pairs += layer_names(f"bbox_head.{kind.format(i)}", layer)
    pairs += [(f"bbox_head.scales.{i}.scale", s) for i, s in enumerate(head.level_scales)]
    return pairs + _prediction_names(model)


def _prediction_names(model):
    """Names of the last convolutions of a detector's head, and of its quality."""
    boxes, quality = model.head.representation.output_name, model.head.quality_predictor
    has_quality = bool(quality is not None and quality.weights)
    head = PREDICTIONS.get((boxes, has_quality))
    if head is None:
        raise CheckpointError(f"mmdetection has no detector with {boxes!r}.")
    pairs = layer_names(f"{PREFIX}{head.classes}", model.head.classification_conv)
    pairs += layer_names(f"{PREFIX}{head.boxes}", model.head.regression_conv)
    if not has_quality:
        return pairs
    if boxes == "box_distributions" and hasattr(quality, "hidden"):
        pairs += layer_names(f"{PREFIX}reg_conf.0", quality.hidden)
        return pairs + layer_names(f"{PREFIX}reg_conf.2", quality.quality)
    if boxes != "box_distributions" and hasattr(quality, "conv"):
        return pairs + layer_names(f"{PREFIX}{head.quality}", quality.conv)
    raise CheckpointError(
        f"mmdetection has no detector with {boxes!r} and the quality {type(quality).__name__}."
    )


def backbone_name_map(backbone, prefix=""):
    """The same for a backbone: layer2_0_downsample_1 -> layer2.0.downsample.1"""
    pairs = []
    for layer in backbone.layers:
        if layer.weights:
            pairs += layer_names(prefix + layer.name.replace("_", "."), layer)
    return pairs


def layer_names(prefix, layer):
    """Names of the tensors of one convolution or normalization."""
    if hasattr(layer, "conv_offset"):  # deformable
        return [
            (f"{prefix}.weight", layer.kernel),
            *layer_names(f"{prefix}.conv_offset", layer.conv_offset),
        ]
    names = NORM if hasattr(layer, "gamma") else CONV
    return [(f"{prefix}.{names[v.name]}", v) for v in layer.weights]
