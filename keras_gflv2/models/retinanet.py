"""RetinaNet: nine anchors per cell, assigned by their overlap."""

from collections.abc import Sequence

import keras

from keras_gflv2.annotations import DType
from keras_gflv2.assigners import Assigner, MaxIoUAssigner
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers import Quality
from keras_gflv2.losses import BoxTerm, ClassTerm, Criterion, FocalLoss, L1Loss
from keras_gflv2.models.dense_detector import DenseDetector
from keras_gflv2.models.distribution_guided import choose_parts
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.representations import AnchorDeltas, BoxRepresentation


@keras.saving.register_keras_serializable(package="keras_gflv2")
class RetinaNet(DenseDetector):
    """RetinaNet (Lin et al., 2017): anchors of three sizes and three ratios in every cell.

    Boxes are deltas to the anchor; the class score is the score.

    Args:
        backbone, num_classes, bounding_box_format: see `DenseDetector`.
        distribution_guided: whether its boxes are general distributions and their quality is read
            off them, as in GFLV2 (Table 5, second row of the pair): distances
            from the center of the anchor in eighths of its width and height, as those of GFL are
            to its anchor.
        reg_max: last bin of a distribution, in eighths of the anchor, where `distribution_guided`.
        grid, representation, quality, assigner, criterion: parts to use instead of its own.
        prediction_decoder, fpn_channels, head_channels, head_depth, head_norm_groups, class_names,
            image_size, name, trainable, dtype: see `DenseDetector`.
            Its towers have convolutions with bias and no normalization unless
            `head_norm_groups` is given.

    Call argument: images (B, H, W, 3) of any size. Returns {"scores" (B, A,
    num_classes), "class_logits", "box_deltas" (B, A, 4)}; distribution-guided {"scores",
    "box_distributions"}. The anchors of a cell are neighboring locations.

    >>> model = keras_gflv2.RetinaNet(keras_gflv2.backbones.ResNet(18), num_classes=3)
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
        head_norm_groups: int | None = None,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] = (800, 1333),
        name: str = "retinanet",
        trainable: bool = True,
        dtype: DType = None,
        **kwargs,
    ):
        own = {
            "representation": AnchorDeltas(),
            "quality": None,
            "criterion": Criterion(
                [
                    ClassTerm(FocalLoss(), target="one"),
                    BoxTerm(L1Loss(), 1.0, weighted_by=None, encoded=True),
                ]
            ),
        }
        given = {"representation": representation, "quality": quality, "criterion": criterion}
        super().__init__(
            backbone,
            num_classes,
            bounding_box_format,
            grid=grid or AnchorGrid(scale=4.0, octaves=3, ratios=(0.5, 1.0, 2.0)),
            assigner=assigner or MaxIoUAssigner(),
            **choose_parts(own, given, distribution_guided, reg_max, unit="anchor"),
            prediction_decoder=prediction_decoder or PredictionDecoder(nms_iou_threshold=0.5),
            fpn_channels=fpn_channels,
            fpn_extra_from="input",
            head_channels=head_channels,
            head_depth=head_depth,
            head_norm_groups=head_norm_groups,
            head_tower_bias=not head_norm_groups,
            head_level_scales=False,
            class_names=class_names,
            image_size=image_size,
            name=name,
            trainable=trainable,
            dtype=dtype,
            **kwargs,
        )
        self.distribution_guided = distribution_guided
        self.reg_max = reg_max
