"""ATSS: anchors, deltas and centerness, with adaptive assignment."""

from collections.abc import Sequence

import keras

from keras_gflv2.annotations import DType
from keras_gflv2.assigners import Assigner, ATSSAssigner
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers import BranchQuality, Quality
from keras_gflv2.losses import BoxTerm, ClassTerm, Criterion, FocalLoss, QualityTerm
from keras_gflv2.models.dense_detector import DenseDetector
from keras_gflv2.models.distribution_guided import choose_parts
from keras_gflv2.representations import AnchorDeltas, BoxRepresentation


@keras.saving.register_keras_serializable(package="keras_gflv2")
class ATSS(DenseDetector):
    """ATSS (Zhang et al., 2020): one square anchor per location, adaptive assignment.

    Boxes are deltas to the anchor; a branch of the box tower predicts the centerness.

    Args:
        backbone, num_classes, bounding_box_format: see `DenseDetector`.
        distribution_guided: whether its boxes are general distributions and their quality is read
            off them, as in GFLV2 (Table 5, second row of the pair): distances
            in strides from the location.
        reg_max: last bin of a distribution, in strides, where `distribution_guided`.
        grid, representation, quality, assigner, criterion: parts to use instead of its own.
        prediction_decoder, fpn_channels, head_channels, head_depth, head_norm_groups, class_names,
            image_size, name, trainable, dtype: see `DenseDetector`.

    Call argument: images (B, H, W, 3) of any size. Returns {"scores" (B, A,
    num_classes), "class_logits", "centerness" (B, A) logits, "box_deltas"
    (B, A, 4)}; distribution-guided {"scores", "box_distributions"}.

    >>> model = keras_gflv2.ATSS(keras_gflv2.backbones.ResNet(18), num_classes=3)
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        distribution_guided: bool = False,
        reg_max: int = 16,
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
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] = (800, 1333),
        name: str = "atss",
        trainable: bool = True,
        dtype: DType = None,
        **kwargs,
    ):
        own = {
            "representation": AnchorDeltas((0.1, 0.1, 0.2, 0.2)),
            "quality": BranchQuality("centerness", dtype=dtype, name="quality_predictor"),
            "criterion": Criterion(
                [
                    ClassTerm(FocalLoss(), target="one"),
                    BoxTerm(weighted_by="centerness"),
                    QualityTerm(),
                ]
            ),
        }
        given = {"representation": representation, "quality": quality, "criterion": criterion}
        super().__init__(
            backbone,
            num_classes,
            bounding_box_format,
            grid=grid or AnchorGrid(),
            assigner=assigner or ATSSAssigner(),
            **choose_parts(own, given, distribution_guided, reg_max),
            prediction_decoder=prediction_decoder,
            fpn_channels=fpn_channels,
            head_channels=head_channels,
            head_depth=head_depth,
            head_norm_groups=head_norm_groups,
            class_names=class_names,
            image_size=image_size,
            name=name,
            trainable=trainable,
            dtype=dtype,
            **kwargs,
        )
        self.distribution_guided = distribution_guided
        self.reg_max = reg_max
