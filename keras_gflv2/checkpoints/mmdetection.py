"""Names in mmdetection's GFL and GFLV2 checkpoints: which tensor is which of ours."""

import re

SOURCE = "mmdetection"
# A tensor that every file of this source has, and no other.
MARKER = "bbox_head.gfl_cls.weight"
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
    """[(their key, our variable)] for a GFLV2 with one of our backbones."""
    pyramid, head = model.feature_pyramid, model.head
    pairs = backbone_name_map(model.backbone, "backbone.")
    for i, conv in enumerate(pyramid.lateral_convs):
        pairs += layer_names(f"neck.lateral_convs.{i}.conv", conv)
    for i, conv in enumerate([*pyramid.output_convs, *pyramid.extra_convs]):
        pairs += layer_names(f"neck.fpn_convs.{i}.conv", conv)
    for name, tower in (("cls_convs", head.classification_tower), ("reg_convs", head.box_tower)):
        for i, (conv, norm) in enumerate(tower):
            pairs += layer_names(f"bbox_head.{name}.{i}.conv", conv)
            pairs += layer_names(f"bbox_head.{name}.{i}.gn", norm)
    pairs += layer_names("bbox_head.gfl_cls", head.classification_conv)
    pairs += layer_names("bbox_head.gfl_reg", head.distribution_conv)
    pairs += [(f"bbox_head.scales.{i}.scale", s) for i, s in enumerate(head.level_scales)]
    if head.quality_predictor:
        pairs += layer_names("bbox_head.reg_conf.0", head.quality_predictor.hidden)
        pairs += layer_names("bbox_head.reg_conf.2", head.quality_predictor.quality)
    return pairs


def backbone_name_map(backbone, prefix=""):
    """The same for a backbone: layer2_0_downsample_1 -> layer2.0.downsample.1"""
    pairs = []
    for layer in backbone.layers:
        if layer.weights:
            pairs += layer_names(prefix + layer.name.replace("_", "."), layer)
    return pairs


def layer_names(prefix, layer):
    """Names of the tensors of one convolution or normalisation."""
    if hasattr(layer, "conv_offset"):  # deformable
        return [
            (f"{prefix}.weight", layer.kernel),
            *layer_names(f"{prefix}.conv_offset", layer.conv_offset),
        ]
    names = NORM if hasattr(layer, "gamma") else CONV
    return [(f"{prefix}.{names[v.name]}", v) for v in layer.weights]
