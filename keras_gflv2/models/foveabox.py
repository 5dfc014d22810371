"""FoveaBox: the central part of each object answers for it."""

from collections.abc import Sequence

import keras

from keras_gflv2.annotations import DType
from keras_gflv2.assigners import Assigner, FoveaAssigner
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layers import Quality
from keras_gflv2.losses import BoxTerm, ClassTerm, Criterion, FocalLoss, SmoothL1Loss
from keras_gflv2.models.dense_detector import DenseDetector
from keras_gflv2.models.distribution_guided import choose_parts
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.representations import BoxRepresentation, Distances


@keras.saving.register_keras_serializable(package="keras_gflv2")
class FoveaBox(DenseDetector):
    """FoveaBox (Kong et al., 2020): no anchors, an object belongs to every level of its size.

    Boxes are logarithms of distances from the location; the class score is the score.

    Args:
        backbone, num_classes, bounding_box_format: see `DenseDetector`.
        distribution_guided: whether its boxes are general distributions and their quality is read
            off them, as in GFLV2 (Table 5, second row of the pair): distances
            in strides from the location.
        reg_max: last bin of a distribution, in strides, where `distribution_guided`.
        grid, representation, quality, assigner, criterion: parts to use instead of its own.
        prediction_decoder, fpn_channels, head_channels, head_depth, head_norm_groups, class_names,
            image_size, name, trainable, dtype: see `DenseDetector`.
            Its towers have convolutions with bias and no normalization unless
            `head_norm_groups` is given.

    Call argument: images (B, H, W, 3) of any size. Returns {"scores" (B, A,
    num_classes), "class_logits", "box_distances" (B, A, 4) logarithms}; distribution-guided
    {"scores", "box_distributions"}.

    >>> model = keras_gflv2.FoveaBox(keras_gflv2.backbones.ResNet(18), num_classes=3)
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
        name: str = "foveabox",
        trainable: bool = True,
        dtype: DType = None,
        **kwargs,
    ):
        own = {
            "representation": Distances("exp", unit=2.0, limit=16.0, edge=1.0),
            "quality": None,
            "criterion": Criterion(
                [
                    ClassTerm(FocalLoss(0.4, 1.5), target="one", normalizer="positives_and_images"),
                    BoxTerm(
                        SmoothL1Loss(0.11),
                        1.0,
                        weighted_by=None,
                        encoded=True,
                        normalizer="positives_alone",
                    ),
                ]
            ),
        }
        given = {"representation": representation, "quality": quality, "criterion": criterion}
        super().__init__(
            backbone,
            num_classes,
            bounding_box_format,
            grid=grid or AnchorGrid(offset=0.5),
            assigner=assigner or FoveaAssigner(),
            **choose_parts(own, given, distribution_guided, reg_max),
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
