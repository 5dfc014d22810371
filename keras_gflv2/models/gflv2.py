"""GFLV2, and GFLV1, from which it differs by the quality predictor."""

import functools
from collections.abc import Sequence

import keras

from keras_gflv2.annotations import DType
from keras_gflv2.assigners import Assigner
from keras_gflv2.layers import GFLHead
from keras_gflv2.losses import Criterion
from keras_gflv2.models.dense_detector import DenseDetector


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GFLV2(DenseDetector):
    """Generalized Focal Loss V2 (Li et al., 2021): a dense one-stage detector.

    Each location predicts class probabilities and, for each side of a box, a distribution over
    distances; the shape of the four distributions tells how well the box is located, and that
    quality multiplies the class probability.

    Args:
        backbone, num_classes, bounding_box_format: see `DenseDetector`.
        reg_max: last bin of a side's distribution; distances reach `reg_max` strides.
        fpn_channels: width of the feature pyramid.
        head_channels, head_depth, head_norm_groups: the head's towers.
        quality_topk, quality_channels, quality_statistics: the quality predictor (Tables 1 and 2);
            `quality_statistics=()` makes it GFLV1.
        fpn_relu, head_tower_bias: PaddleDetection's variant: a ReLU between P6 and P7, and biases
            in the towers.
        assigner: which locations answer for which boxes in training. Default: `ATSSAssigner()`.
        criterion: what it is trained towards. Default: quality focal loss of the joint score,
            GIoU loss x 2 and distribution focal loss x 0.25.
        prediction_decoder, class_names, image_size, name, trainable, dtype: see `DenseDetector`.

    Call argument: images (B, H, W, 3) of any size. Returns {"scores": (B, A, num_classes) in 0..1,
    "box_distributions": (B, A, 4, reg_max + 1) logits} for the A locations of all levels; GFLV1
    also "class_logits" (B, A, num_classes).

    >>> model = keras_gflv2.GFLV2(keras_gflv2.backbones.ResNet(18), num_classes=3)
    >>> model.compile()
    >>> model.fit(train_ds, validation_data=val_ds)
    >>> model.predict(images)["boxes"]
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
        quality_topk: int = 4,
        quality_channels: int = 64,
        quality_statistics: Sequence[str] = ("topk", "mean"),
        prediction_decoder: keras.layers.Layer | None = None,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] = (800, 1333),
        fpn_relu: bool = False,
        head_tower_bias: bool = False,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        name: str = "gflv2",
        trainable: bool = True,
        dtype: DType = None,
        **kwargs,
    ):
        make_head = functools.partial(
            GFLHead,
            num_classes,
            reg_max=reg_max,
            channels=head_channels,
            depth=head_depth,
            norm_groups=head_norm_groups,
            tower_bias=head_tower_bias,
            quality_topk=quality_topk,
            quality_channels=quality_channels,
            quality_statistics=quality_statistics,
        )
        super().__init__(
            backbone,
            num_classes,
            bounding_box_format,
            assigner=assigner,
            criterion=criterion,
            prediction_decoder=prediction_decoder,
            fpn_channels=fpn_channels,
            fpn_relu=fpn_relu,
            head_channels=head_channels,
            head_depth=head_depth,
            head_norm_groups=head_norm_groups,
            head_tower_bias=head_tower_bias,
            class_names=class_names,
            image_size=image_size,
            make_head=make_head,
            name=name,
            trainable=trainable,
            dtype=dtype,
            **kwargs,
        )
        self.reg_max = reg_max
        self.quality_topk = quality_topk
        self.quality_channels = quality_channels
        self.quality_statistics = tuple(quality_statistics)

    @property
    def integral(self):
        """The layer from the logits of a distribution to its expected value."""
        return self.representation.integral

    @integral.setter
    def integral(self, layer):
        self.representation.integral = layer
