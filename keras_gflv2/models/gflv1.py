"""GFLV1: the class branch learns the quality itself."""

from collections.abc import Sequence

import keras

from keras_gflv2.annotations import DType
from keras_gflv2.assigners import Assigner
from keras_gflv2.losses import Criterion
from keras_gflv2.models.gflv2 import GFLV2


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GFLV1(GFLV2):
    """Generalized Focal Loss (Li et al., 2020): GFLV2 without its quality predictor.

    Boxes are four general distributions; quality focal loss trains the class branch towards the
    IoU of the predicted box.

    Args:
        all: see `GFLV2`.

    Call argument: images (B, H, W, 3) of any size. Returns {"scores", "class_logits"
    (B, A, num_classes), "box_distributions" (B, A, 4, reg_max + 1)}.

    >>> model = keras_gflv2.GFLV1(keras_gflv2.backbones.ResNet(18), num_classes=3)
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        reg_max: int = 16,
        fpn_channels: int = 256,
        head_channels: int = 256,
        head_depth: int = 4,
        head_norm_groups: int = 32,
        prediction_decoder: keras.layers.Layer | None = None,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] = (800, 1333),
        fpn_relu: bool = False,
        head_tower_bias: bool = False,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        name: str = "gflv1",
        trainable: bool = True,
        dtype: DType = None,
        **kwargs,
    ):
        super().__init__(
            backbone,
            num_classes,
            bounding_box_format,
            reg_max=reg_max,
            fpn_channels=fpn_channels,
            head_channels=head_channels,
            head_depth=head_depth,
            head_norm_groups=head_norm_groups,
            quality_statistics=(),
            prediction_decoder=prediction_decoder,
            class_names=class_names,
            image_size=image_size,
            fpn_relu=fpn_relu,
            head_tower_bias=head_tower_bias,
            assigner=assigner,
            criterion=criterion,
            name=name,
            trainable=trainable,
            dtype=dtype,
            **kwargs,
        )
