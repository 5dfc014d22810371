"""Names in the official (mmdetection) GFLV2 checkpoints: which tensor is which of ours."""

import re

# Tensors that hold no weight: counters, and the constants 0..n of the integral.
NOT_WEIGHTS = re.compile(r"num_batches_tracked$|integral\.project$")

NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
        "moving_variance": "running_var"}  # fmt: skip
CONV = {"kernel": "weight", "bias": "bias"}


def name_map(model):
    """[(their key, our variable)] for a GFLV2 with one of our ResNets."""
    pairs = []
    for layer in model.backbone.layers:
        if layer.weights:
            pairs += _layer(f"backbone.{_backbone_name(layer.name)}", layer)
    pyramid, head = model.feature_pyramid, model.head
    for i, conv in enumerate(pyramid.lateral_convs):
        pairs += _layer(f"neck.lateral_convs.{i}.conv", conv)
    for i, conv in enumerate([*pyramid.output_convs, *pyramid.extra_convs]):
        pairs += _layer(f"neck.fpn_convs.{i}.conv", conv)
    towers = (("cls_convs", head.classification_tower), ("reg_convs", head.box_tower))
    for name, tower in towers:
        for i, (conv, norm) in enumerate(tower):
            pairs += _layer(f"bbox_head.{name}.{i}.conv", conv)
            pairs += _layer(f"bbox_head.{name}.{i}.gn", norm)
    pairs += _layer("bbox_head.gfl_cls", head.classification_conv)
    pairs += _layer("bbox_head.gfl_reg", head.distribution_conv)
    pairs += [(f"bbox_head.scales.{i}.scale", s) for i, s in enumerate(head.level_scales)]
    if head.quality_predictor:
        pairs += _layer("bbox_head.reg_conf.0", head.quality_predictor.hidden)
        pairs += _layer("bbox_head.reg_conf.2", head.quality_predictor.quality)
    return pairs


def _backbone_name(name):
    """layer1_0_conv1 -> layer1.0.conv1, layer2_0_downsample_1 -> layer2.0.downsample.1"""
    return name.replace("_", ".")


def _layer(prefix, layer):
    names = NORM if "normalization" in type(layer).__name__.lower() else CONV
    return [(f"{prefix}.{names[v.name]}", v) for v in layer.weights]
