"""A dense detector put together from its parts: images in, raw predictions or detections out."""

from collections.abc import Callable, Sequence

import keras
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.annotations import DType
from keras_gflv2.assigners import Assigner, ATSSAssigner
from keras_gflv2.backbones.pyramid import feature_extractor
from keras_gflv2.backbones.resnet import PIXEL_MEAN
from keras_gflv2.checkpoints.weight_files import check_store
from keras_gflv2.contract import check_box_format
from keras_gflv2.grid import AnchorGrid
from keras_gflv2.layer_settings import LayerSettings, default_policy
from keras_gflv2.layers import DenseHead, FeaturePyramid, PadToMultiple, Quality
from keras_gflv2.losses import Criterion
from keras_gflv2.models import saving
from keras_gflv2.models.detector_inference import DetectorInference
from keras_gflv2.models.detector_presets import DetectorPresets
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.postprocessing.decoder import takes_functions
from keras_gflv2.representations import BoxRepresentation, GeneralDistribution
from keras_gflv2.rows import take_rows
from keras_gflv2.targets import Targets
from keras_gflv2.training.detector_training import DetectorTraining


@keras.saving.register_keras_serializable(package="keras_gflv2")
class DenseDetector(DetectorPresets, DetectorInference, DetectorTraining):
    """A one-stage detector: every location of every level predicts a class and a box.

    One detector is a backbone, a feature pyramid, a head, and parts that can each be replaced:
    where it looks (grid), how numbers mean a box (representation), how it tells the quality of a
    box (quality), which locations answer for which objects (assigner) and what it is trained
    towards (criterion). `GFLV2`, `ATSS`, `FCOS` and others are choices of them.

    Args:
        backbone: a Keras model with pyramid outputs {"P3", "P4", "P5"}: one of
            `keras_gflv2.backbones`, of KerasCV (`pyramid_level_inputs`), of KerasHub
            (`pyramid_outputs`) or any model with these output names. It gets RGB in 0..255.
        num_classes: number of classes, without background.
        bounding_box_format: KerasCV's name of the format of the boxes in `fit` and of those that
            `predict` returns: "xyxy", "xywh", "rel_yxyx", ... Relative ones refer to the batch.
        grid: an `AnchorGrid`. Default: locations without offset, one anchor each.
        representation: a `BoxRepresentation`. Default: `GeneralDistribution()`.
        quality: a `Quality` layer. Default: none, the class score is the score.
        assigner: an `Assigner`. Default: `ATSSAssigner()`.
        criterion: a `Criterion`. Default: `Criterion.for_outputs`, that of Generalized Focal Loss.
        prediction_decoder: a `PredictionDecoder`, or a layer with its call signature.
        fpn_channels: width of the feature pyramid.
        fpn_relu: whether a ReLU comes before P7 (FCOS, PaddleDetection).
        fpn_extra_from: what P6 is computed from: "output", the pyramid's P5, or "input", the
            backbone's (RetinaNet, FoveaBox).
        head_channels, head_depth, head_norm_groups, head_tower_bias, head_level_scales: the head's
            towers and scales, see `DenseHead`.
        class_names: list of `num_classes` names, used by `detect` and drawings.
        image_size: (short side, longest long side) in pixels to which `detect` resizes images.
        make_head: function of `dtype` and `name` that returns the `DenseHead`, for subclasses that
            have one of their own.
        name, trainable, dtype: as in `keras.Model`. `dtype` is the policy of pyramid and head; the
            backbone has its own. Scores, losses and decoding are float32 under any policy.

    Attributes:
        calibration: the `SideCalibration` of the uncertainties of boxes, which
            `evaluation.calibrate` sets and files keep, or None.

    Call argument: images (B, H, W, 3) of any size. Returns a dictionary, float32, for the A
    locations of all levels: "scores" (B, A, num_classes) in 0..1, the raw numbers of the boxes
    under `representation.output_name`, and what the quality adds.

    >>> model = keras_gflv2.DenseDetector(
    ...     keras_gflv2.backbones.ResNet(18), num_classes=3,
    ...     quality=keras_gflv2.layers.DistributionGuidedQualityPredictor(),
    ... )
    >>> model.compile()
    >>> model.fit(train_ds, validation_data=val_ds)
    >>> model.predict(images)["boxes"]
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        grid: AnchorGrid | None = None,
        representation: BoxRepresentation | None = None,
        quality: Quality | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        prediction_decoder: keras.layers.Layer | None = None,
        fpn_channels: int = 256,
        fpn_relu: bool = False,
        fpn_extra_from: str = "output",
        head_channels: int = 256,
        head_depth: int = 4,
        head_norm_groups: int | None = 32,
        head_tower_bias: bool = False,
        head_level_scales: bool = True,
        class_names: Sequence[str] | None = None,
        image_size: tuple[int, int] = (800, 1333),
        make_head: Callable[..., keras.layers.Layer] | None = None,
        name: str = "dense_detector",
        trainable: bool = True,
        dtype: DType = None,
        **kwargs,
    ):
        check_box_format(bounding_box_format)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"`class_names` must have num_classes={num_classes} names, got {len(class_names)}."
            )
        # === Layers ===
        policy = keras.dtype_policies.get(dtype)
        grid = grid or AnchorGrid()
        pad = PadToMultiple(
            grid.size_multiple,
            getattr(backbone, "pixel_mean", PIXEL_MEAN),
            dtype="float32",
            name="pad",
        )
        with default_policy(policy):
            extractor = feature_extractor(backbone)
        pyramid = FeaturePyramid(
            fpn_channels,
            extra_relu=fpn_relu,
            extra_from=fpn_extra_from,
            dtype=policy,
            name="feature_pyramid",
        )
        if make_head is not None:
            head = make_head(dtype=policy, name="head")
        else:
            head = DenseHead(
                num_classes,
                representation or GeneralDistribution(),
                quality,
                grid,
                channels=head_channels,
                depth=head_depth,
                norm_groups=head_norm_groups,
                tower_bias=head_tower_bias,
                level_scales=head_level_scales,
                dtype=policy,
                name="head",
            )

        # === Functional Model ===
        images = keras.Input((None, None, 3), name="images")
        outputs = head(pyramid(extractor(pad(images))))
        super().__init__(images, outputs, name=name, **kwargs)
        self.dtype_policy = policy  # which Keras does not take from a functional model's arguments

        # === Parts ===
        self.backbone = backbone
        self.feature_pyramid = pyramid
        self.head = head
        self.grid = grid
        self.representation = head.representation
        self.assigner = assigner or ATSSAssigner()
        self.criterion = criterion or Criterion.for_outputs(outputs)
        self.prediction_decoder = prediction_decoder or PredictionDecoder()

        # === Config ===
        self.num_classes = num_classes
        self.bounding_box_format = bounding_box_format
        self.fpn_channels = fpn_channels
        self.fpn_relu = fpn_relu
        self.fpn_extra_from = fpn_extra_from
        self.head_channels = head_channels
        self.head_depth = head_depth
        self.head_norm_groups = head_norm_groups
        self.head_tower_bias = head_tower_bias
        self.head_level_scales = head_level_scales
        self.class_names = list(class_names) if class_names is not None else None
        self.image_size = tuple(image_size)
        self.preset = None  # what `from_preset` knows of the weights

        self.prepare_training()
        self.prepare_inference()
        self.layer_settings = LayerSettings(self, without=backbone)
        if not trainable:
            self.trainable = False

    @property
    def quality(self):
        """How the quality of boxes is told: a `Quality` layer of the head, or None."""
        return self.head.quality_predictor

    # === Training ===

    def losses_of_batch(self, criterion, x, y, y_pred):
        """{name: scalar} weighted losses of a batch, and how many of its boxes had no meaning.

        Args:
            criterion: a `Criterion`.
            x, y, y_pred: see `compute_loss`.
        """
        targets = Targets.from_batch(y, self.bounding_box_format, x, self.num_classes)
        at = self.grid(*ops.shape(x)[1:3])
        assignment = self.assigner(targets, at)
        losses = criterion(targets, assignment, y_pred, at, self.representation)
        return losses, targets.num_faulty

    def recompute(self, value):
        """Whether a training step computes maps again instead of keeping them; see `compile`."""
        self.head.recomputes = value
        if hasattr(self.backbone, "recompute"):
            self.backbone.recompute(value)

    # === Inference ===

    def decode_predictions(self, predictions, images, image_sizes=None, **thresholds):
        """Turns what calling the model returns into detections, as `predict` does.

        Args:
            predictions: what calling the model returns.
            images: the images (B, H, W, 3) that they are of.
            image_sizes: (B, 2) height and width of each image inside the batch; boxes are clipped
                to it. Default: the batch's size.
            **thresholds: `score_threshold` or `nms_iou_threshold`, (B,), other than those of the
                decoder.
        """
        height, width = ops.shape(images)[1:3]
        if image_sizes is None:
            image_sizes = ops.stack([height, width])[None]
        at = self.grid(height, width)
        detections = self.select_detections(predictions, at, image_sizes, **thresholds)
        raw = predictions[self.representation.output_name]
        detections.update(self.uncertainties(raw, detections.pop("locations", None), at))
        return self.finish_detections(detections, height, width)

    def select_detections(self, predictions, at, image_sizes, **thresholds):
        """What the decoder makes of predictions at the `Locations` of a batch: boxes in pixels.

        Args:
            predictions, image_sizes, **thresholds: see `decode_predictions`.
            at: the locations.
        """
        raw = predictions[self.representation.output_name]

        def boxes(locations):
            decoded = self.representation.decode(take_rows(raw, locations), at.take(locations))
            return self.clip_boxes(decoded, image_sizes)

        def candidates(locations):
            chosen = {name: take_rows(values, locations) for name, values in predictions.items()}
            return self.candidate_scores(chosen)

        if not takes_functions(self.prediction_decoder):
            boxes = self.clip_boxes(self.representation.decode(raw, at), image_sizes)
            candidates = self.candidate_scores(predictions)
        if candidates is not None:
            thresholds["candidate_scores"] = candidates
        is_by_variance = getattr(self.prediction_decoder, "box_voting", None) == "variance"
        if is_by_variance and self.representation.has_spread:
            thresholds["spread"] = self.representation.spread(raw, at)
        return dict(
            self.prediction_decoder(
                predictions["scores"], boxes=boxes, locations_per_level=at.lengths, **thresholds
            )
        )

    def uncertainties(self, raw, locations, at):
        """How far the sides predicted at some locations may be off.

        Args:
            raw: (B, A, ...) the numbers of the boxes, under `representation.output_name`.
            locations: (B, D) int32 indices into A, -1 after the last; None where they are unknown.
            at: the `Locations` of the batch.

        Returns:
            {"uncertainties": (B, D, 4)}, standard deviations of the left, top, right and bottom
            side in pixels; {} where the representation has no distributions.
        """
        if locations is None or not self.representation.has_spread:
            return {}
        index = ops.maximum(locations, 0)  # a detection that is none has any, until the end
        return {"uncertainties": self.representation.spread(take_rows(raw, index), at.take(index))}

    def candidate_scores(self, predictions):
        """Scores (B, A, C) that choose the candidates of NMS, or None: those of the predictions."""
        return self.quality.candidate_scores(predictions) if self.quality else None

    def locate(self, predictions, height, width):
        """Boxes (B, A, 4) of all locations, xyxy in pixels, and how many each level has.

        Args:
            predictions: what calling the model returns.
            height, width: size of the images that they are of.
        """
        at = self.grid(height, width)
        raw = predictions[self.representation.output_name]
        return self.representation.decode(raw, at), at.lengths

    def spread(self, predictions, height, width):
        """Standard deviations (B, A, 4) in pixels of the sides of all boxes, or None."""
        if not self.representation.has_spread:
            return None
        raw = predictions[self.representation.output_name]
        return self.representation.spread(raw, self.grid(height, width))

    def clip_boxes(self, boxes, image_sizes):
        """Boxes (B, A, 4), xyxy, cut at the edges of each image: `image_sizes` (B, 2) in pixels."""
        return self.representation.clip(boxes, image_sizes)

    def finish_detections(self, detections, height, width):
        """Detections in the form that `predict` returns.

        Args:
            detections: those of the decoder: "boxes" (B, D, 4), xyxy, "classes" (B, D) and others;
                "uncertainties" (B, D, 4) of their sides, where there are. Both in pixels.
            height, width: size of the batch.

        Returns:
            The same with boxes in `bounding_box_format` and uncertainties in its unit, calibrated
            where the detector has a `calibration`; -1 after the last.
        """
        to_format = "xyxy", self.bounding_box_format, height, width
        finished = {"boxes": box_ops.convert(detections["boxes"], *to_format)}
        if "uncertainties" in detections:
            sides = detections["uncertainties"]
            if self.calibration is not None:
                sides = self.calibration.deviations(sides, detections["boxes"])
            finished["uncertainties"] = box_ops.convert_sides(sides, *to_format)
        present = detections["classes"][..., None] >= 0
        return {
            **detections,
            **{name: ops.where(present, values, -1.0) for name, values in finished.items()},
        }

    @property
    def padding_color(self):
        """RGB in 0..255 that becomes zero in the network: what is outside of an image."""
        return tuple(float(v) for v in getattr(self.backbone, "pixel_mean", PIXEL_MEAN))

    @property
    def padding_colour(self):
        """`padding_color`, as version 0.1 spelled it."""
        return self.padding_color

    def convert_boxes(self, boxes, target, height, width):
        """Boxes (..., 4) of the model's format in another; `height`, `width` of the batch."""
        return box_ops.convert(boxes, self.bounding_box_format, target, height, width)

    # === Saving ===

    def load_own_variables(self, store):
        check_store(store)  # Keras gives the whole file to the model, before its layers.
        super().load_own_variables(store)

    def get_config(self):
        return saving.config(self)

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The detector of `get_config`.

        Args:
            config: the dictionary. With a `dtype` that is a policy or its name, instead of the
                serialized one that was saved, all parts get it.
            custom_objects: {name: class or function} of parts that are not registered.
        """
        return saving.from_config(cls, config, custom_objects)
