"""Names in PaddleDetection's GFL and GFLv2 checkpoints: which tensor is which of ours."""

import re
import string

from keras_gflv2.checkpoints.errors import CheckpointError
from keras_gflv2.checkpoints.heads import Head

SOURCE = "PaddleDetection"
PREFIX = "head."
HEADS = (
    Head("GFLV2", "gfl_head_cls", "gfl_head_reg", "dgqp_module.dgqp_reg_conv1"),
    Head("GFLV1", "gfl_head_cls", "gfl_head_reg", None),
)
MARKERS = ("head.gfl_head_cls.weight",)
# Tensors that may have a background channel at their end.
CLASSIFICATION = ("head.gfl_head_cls.weight", "head.gfl_head_cls.bias")
# Constants of the integral, a table of names, and the quality predictor's second names.
NOT_WEIGHTS = re.compile(
    r"distribution_project\.project$|^StructuredToParameterName@@$|dgqp_module\.reg_conv\d\."
)

NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "_mean",
    "moving_variance": "_variance",
}
CONV = {"kernel": "weight", "bias": "bias"}
# Our part of a residual block -> theirs.
BRANCHES = {
    "conv1": "branch2a.conv",
    "bn1": "branch2a.norm",
    "conv2": "branch2b.conv",
    "bn2": "branch2b.norm",
    "conv3": "branch2c.conv",
    "bn3": "branch2c.norm",
    "downsample_0": "short.conv",
    "downsample_1": "short.norm",
}
STEM = {"conv1": "conv1.conv1.conv", "bn1": "conv1.conv1.norm"}
TOWER = "head.conv_feat.fcos_head_{}_tower_conv_{}.{}"


def name_map(model):
    """[(their key, our variable)] for a GFLV1 or GFLV2 with one of our ResNets.

    Raises:
        CheckpointError: the head is that of another detector.
    """
    pyramid, head = model.feature_pyramid, model.head
    if head.representation.output_name != "box_distributions":
        raise CheckpointError(
            f"PaddleDetection's files are of GFLV1 and GFLV2, not of {type(model).__name__}."
        )
    pairs = []
    for layer in model.backbone.layers:
        if layer.weights:
            pairs += _layer(f"backbone.{_backbone_name(layer.name)}", layer)
    *lateral, last = pyramid.lateral_convs
    for i, conv in enumerate(lateral, start=3):
        pairs += _layer(f"neck.fpn_inner_res{i}_sum_lateral", conv)
    pairs += _layer("neck.fpn_inner_res5_sum", last)
    for i, conv in enumerate(pyramid.output_convs, start=3):
        pairs += _layer(f"neck.fpn_res{i}_sum", conv)
    for i, conv in enumerate(pyramid.extra_convs, start=6):
        pairs += _layer(f"neck.fpn_{i}", conv)
    for name, part, layers in (
        ("cls", "conv", head.classification_convs),
        ("cls", "norm", head.classification_norms),
        ("reg", "conv", head.box_convs),
        ("reg", "norm", head.box_norms),
    ):
        for i, layer in enumerate(layers):
            pairs += _layer(TOWER.format(name, i, part), layer)
    pairs += _layer("head.gfl_head_cls", head.classification_conv)
    pairs += _layer("head.gfl_head_reg", head.regression_conv)
    pairs += [(f"head.p{i}_feat.scale_reg", s) for i, s in enumerate(head.level_scales, start=3)]
    if head.quality_predictor:
        pairs += _layer("head.dgqp_module.dgqp_reg_conv1", head.quality_predictor.hidden)
        pairs += _layer("head.dgqp_module.dgqp_reg_conv2", head.quality_predictor.quality)
    return pairs


def _backbone_name(name):
    """layer1_0_conv2 -> res2.res2a.branch2b.conv"""
    if name in STEM:
        return STEM[name]
    stage, block, part = name.removeprefix("layer").split("_", 2)
    stage = f"res{int(stage) + 1}"
    return f"{stage}.{stage}{string.ascii_lowercase[int(block)]}.{BRANCHES[part]}"


def _layer(prefix, layer):
    names = NORM if hasattr(layer, "gamma") else CONV
    return [(f"{prefix}.{names[v.name]}", v) for v in layer.weights]
