"""The golden head arrays as inputs and weights of ours."""

from common import golden, nhwc

from keras_gflv2.checkpoints.load import to_keras_layout
from keras_gflv2.layers import GFLHead

CASES = (
    "head_gn8.npz",
    "head_gn32.npz",
    "head_gn8_smallpad.npz",
    "head_gn8_second_image_empty.npz",
    "head_gn8_all_empty.npz",
)


def case_arrays(case):
    """The arrays of one case: those of the first one, and what differs from it."""
    return {**golden(CASES[0]), **golden(case)}


def head_weights(head):
    """[(key, variable)] by the official names, written out here on purpose."""
    pairs = []
    for name, tower in (
        ("cls_convs", head.classification_tower),
        ("reg_convs", head.box_tower),
    ):
        for i, (conv, norm) in enumerate(tower):
            pairs.append((f"{name}.{i}.conv.weight", conv.kernel))
            pairs += [(f"{name}.{i}.gn.weight", norm.gamma), (f"{name}.{i}.gn.bias", norm.beta)]
    for name, layer in (
        ("gfl_cls", head.classification_conv),
        ("gfl_reg", head.distribution_conv),
        ("reg_conf.0", head.quality_predictor.hidden),
        ("reg_conf.2", head.quality_predictor.quality),
    ):
        pairs += [(f"{name}.weight", layer.kernel), (f"{name}.bias", layer.bias)]
    pairs += [(f"scales.{i}.scale", scale) for i, scale in enumerate(head.level_scales)]
    return pairs


def features(data):
    return {f"P{i + 3}": nhwc(data[f"feat_{i}"]) for i in range(5)}


def load_head(data, head=None):
    """The official head with all 6 channels: background is our sixth class."""
    head = head or GFLHead(
        6, channels=32, depth=4, norm_groups=int(data["num_groups"]), quality_channels=64
    )
    if not head.built:
        head.build({k: v.shape for k, v in features(data).items()})
    for key, variable in head_weights(head):
        variable.assign(to_keras_layout(data[f"w__{key}"], variable.shape))
    return head
