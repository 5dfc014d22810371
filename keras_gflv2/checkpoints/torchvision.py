"""Names in ImageNet classifiers of torchvision and OpenMMLab: those of mmdetection's backbones."""

import re

from keras_gflv2.checkpoints.mmdetection import backbone_name_map

SOURCE = "an ImageNet classifier"
MARKERS = ("layer1.0.conv1.weight",)
HEADS = ()
# Tensors that may have a background channel at their end.
CLASSIFICATION = ()
# The classifier itself is of no use to a detector.
NOT_WEIGHTS = re.compile(r"num_batches_tracked$|^fc\.")


def name_map(backbone):
    """[(their key, our variable)] for one of our backbones."""
    return backbone_name_map(backbone)
