"""FCOS: distances from points inside the objects, and centerness."""

from collections.abc import Sequence

import keras

from keras_gflv2.annotations import DType
from keras_gflv2.assigners import Assigner, FCOSAssigner
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers import BranchQuality, Quality
from keras_gflv2.losses import (
    BoxTerm,
    ClassTerm,
    Criterion,
    FocalLoss,
    GIoULoss,
    IoULoss,
    QualityTerm,
)
from keras_gflv2.models.dense_detector import DenseDetector
from keras_gflv2.models.distribution_guided import choose_parts
from keras_gflv2.representations import BoxRepresentation, Distances


@keras.saving.register_keras_serializable(package="keras_gflv2")
class FCOS(DenseDetector):
    """FCOS (Tian et al., 2019): no anchors, each level answers for objects of its size.

    Boxes are distances from the location; a branch predicts the centerness. The default has the
    usual improvements: center sampling, distances in strides, centerness on the box tower, GIoU
    loss. The plain one of the first version is `FCOS(..., center_radius=None,
    normalized_distances=False, centerness_tower="classification", giou=False)`.

    Args:
        backbone, num_classes, bounding_box_format: see `DenseDetector`.
        distribution_guided: whether its boxes are general distributions and their quality is read
            off them, as in GFLV2 (Table 5, second row of the pair): distances
            in strides from the location.
        reg_max: last bin of a distribution, in strides, where `distribution_guided`.
        center_radius: half of the side, in strides, of the square around an object's center in
            which locations answer for it; None for all of the object.
        normalized_distances: whether distances are relu(x) strides, instead of exp(x) pixels.
        centerness_tower: which tower predicts the centerness, "box" or "classification".
        giou: whether the box loss is 1 - GIoU, instead of -log(IoU).
        fpn_relu, head_tower_bias: as the published weights have them: a ReLU between P6 and P7, and
            biases in the towers.
        grid, representation, quality, assigner, criterion: parts to use instead of its own.
        prediction_decoder, fpn_channels, head_channels, head_depth, head_norm_groups, class_names,
            image_size, name, trainable, dtype: see `DenseDetector`.

    Call argument: images (B, H, W, 3) of any size. Returns {"scores" (B, A,
    num_classes), "class_logits", "centerness" (B, A) logits, "box_distances"
    (B, A, 4)}; distribution-guided {"scores", "box_distributions"}.

    >>> model = keras_gflv2.FCOS(keras_gflv2.backbones.ResNet(18), num_classes=3)
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        distribution_guided: bool = False,
        reg_max: int = 16,
        center_radius: float | None = 1.5,
        normalized_distances: bool = True,
        centerness_tower: str = "box",
        giou: bool = True,
        fpn_relu: bool = False,
        grid: AnchorGrid | None = None,
        representation: BoxRepresentation | None = None,
        quality: Quality | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        prediction_decoder: keras.layers.Layer | None = None,
        fpn_channels: int = 256,
        head_channels: int = 256,
        head_depth: int = 4,
        head_norm_groups: int | None = 32,
        head_tower_bias: bool = False,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] = (800, 1333),
        name: str = "fcos",
        trainable: bool = True,
        dtype: DType = None,
        **kwargs,
    ):
        own = {
            "representation": Distances()
            if normalized_distances
            else Distances("exp", in_strides=False),
            "quality": BranchQuality(
                "centerness", centerness_tower, dtype=dtype, name="quality_predictor"
            ),
            "criterion": Criterion(
                [
                    ClassTerm(FocalLoss(), target="one", normalizer="positives_and_images"),
                    BoxTerm(GIoULoss() if giou else IoULoss(), 1.0, weighted_by="centerness"),
                    QualityTerm(normalizer="positives_alone"),
                ]
            ),
        }
        given = {"representation": representation, "quality": quality, "criterion": criterion}
        super().__init__(
            backbone,
            num_classes,
            bounding_box_format,
            grid=grid or AnchorGrid(offset=0.5),
            assigner=assigner or FCOSAssigner(center_radius),
            **choose_parts(own, given, distribution_guided, reg_max),
            prediction_decoder=prediction_decoder,
            fpn_channels=fpn_channels,
            fpn_relu=fpn_relu,
            head_channels=head_channels,
            head_depth=head_depth,
            head_norm_groups=head_norm_groups,
            head_tower_bias=head_tower_bias,
            class_names=class_names,
            image_size=image_size,
            name=name,
            trainable=trainable,
            dtype=dtype,
            **kwargs,
        )
        self.distribution_guided = distribution_guided
        self.reg_max = reg_max
        self.center_radius = center_radius
        self.normalized_distances = normalized_distances
        self.centerness_tower = centerness_tower
        self.giou = giou
