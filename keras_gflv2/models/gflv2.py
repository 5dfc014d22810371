"""GFLV2: images in, raw predictions or detections out; the losses that train it."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2 import recipes
from keras_gflv2.assigners import ATSSAssigner
from keras_gflv2.backbones.resnet import PIXEL_MEAN
from keras_gflv2.checkpoints.presets import save_to_directory
from keras_gflv2.checkpoints.weight_files import check_store
from keras_gflv2.contract import (
    DataContract,
    at_least_one_box,
    check_box_format,
    check_pixels,
    unpack,
    usable,
)
from keras_gflv2.images import read_image, resize_image, resize_shape
from keras_gflv2.layer_settings import LayerSettings, default_policy
from keras_gflv2.layers import FeaturePyramid, GFLHead, Integral, PadToMultiple
from keras_gflv2.losses import DistributionFocalLoss, GIoULoss, QualityFocalLoss
from keras_gflv2.losses.per_location import per_location
from keras_gflv2.models import presets, saving
from keras_gflv2.optimizers import build_optimizer, separate_averages
from keras_gflv2.postprocessing import PredictionDecoder
from keras_gflv2.replicas import (
    OneDevicePrediction,
    batch_divisor,
    is_spread,
    loss_in_logs,
    number_of_replicas,
    processes_of,
    replica_logs,
    replica_scope,
    share_dataset,
    sum_over_replicas,
    torch_processes,
)
from keras_gflv2.training.faulty_boxes import FaultyBoxes
from keras_gflv2.training.feeding import Feeding, own_errors
from keras_gflv2.training.sources import training_size
from keras_gflv2.training.tell_of_data import TellOfData, with_callback

LEVELS = ("P3", "P4", "P5", "P6", "P7")
STRIDES = (8, 16, 32, 64, 128)
# The coarsest level that convolutions reach evenly; P6 and P7 round up.
SIZE_MULTIPLE = 32
# Parts of a training's state on JAX, in Keras's order.
JAX_STATE = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)
LOSS_WEIGHTS = {"classification": 1.0, "box": 2.0, "distribution": 0.25}


@keras.saving.register_keras_serializable(package="keras_gflv2")
class GFLV2(keras.Model):
    """Generalized Focal Loss V2 (Li et al., 2021): a dense one-stage detector.

    Each location predicts class probabilities and, for each side of a box, a distribution over
    distances; the shape of the four distributions tells how well the box is located, and that
    quality multiplies the class probability.

    Args:
        backbone: a Keras model with pyramid outputs {"P3", "P4", "P5"}: one of
            `keras_gflv2.backbones`, of KerasCV (`pyramid_level_inputs`), of KerasHub
            (`pyramid_outputs`) or any model with these output names. It gets RGB in 0..255.
        num_classes: number of classes, without background.
        bounding_box_format: KerasCV's name of the format of the boxes in `fit` and of those that
            `predict` returns: "xyxy", "xywh", "rel_yxyx", ... Relative ones refer to the batch.
        reg_max: last bin of a side's distribution; distances reach `reg_max` strides.
        fpn_channels: width of the feature pyramid.
        head_channels, head_depth, head_norm_groups: the head's towers.
        quality_topk, quality_channels, quality_statistics: the quality predictor (Tables 1 and 2);
            `quality_statistics=()` makes it GFLV1.
        prediction_decoder: a `PredictionDecoder`, or a layer with its call signature.
        class_names: list of `num_classes` names, used by `detect` and drawings.
        image_size: (short side, longest long side) in pixels to which `detect` resizes images.
        fpn_relu, head_tower_bias: PaddleDetection's variant: a ReLU between P6 and P7, and biases
            in the towers.
        assigner: which locations answer for which boxes in training: an `ATSSAssigner` (default),
            or an object with its call signature.
        name, trainable, dtype: as in `keras.Model`. `dtype` is the policy of pyramid and head; the
            backbone has its own. Scores, losses and decoding are float32 under any policy.

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
        backbone,
        num_classes: int,
        bounding_box_format: str = "xyxy",
        reg_max: int = 16,
        fpn_channels: int = 256,
        head_channels: int = 256,
        head_depth: int = 4,
        head_norm_groups: int = 32,
        quality_topk: int = 4,
        quality_channels: int = 64,
        quality_statistics=("topk", "mean"),
        prediction_decoder=None,
        class_names=None,
        image_size=(800, 1333),
        fpn_relu: bool = False,
        head_tower_bias: bool = False,
        assigner=None,
        name: str = "gflv2",
        trainable: bool = True,
        dtype=None,
        **kwargs,
    ):
        check_box_format(bounding_box_format)
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"`class_names` must have num_classes={num_classes} names, got {len(class_names)}."
            )
        # === Layers ===
        policy = keras.dtype_policies.get(dtype)
        pad = PadToMultiple(
            SIZE_MULTIPLE,
            getattr(backbone, "pixel_mean", PIXEL_MEAN),
            dtype="float32",
            name="pad",
        )
        with default_policy(policy):
            extractor = feature_extractor(backbone)
        pyramid = FeaturePyramid(
            fpn_channels, extra_relu=fpn_relu, dtype=policy, name="feature_pyramid"
        )
        head = GFLHead(
            num_classes,
            reg_max=reg_max,
            channels=head_channels,
            depth=head_depth,
            norm_groups=head_norm_groups,
            tower_bias=head_tower_bias,
            quality_topk=quality_topk,
            quality_channels=quality_channels,
            quality_statistics=quality_statistics,
            levels=LEVELS,
            dtype=policy,
            name="head",
        )

        # === Functional Model ===
        images = keras.Input((None, None, 3), name="images")
        outputs = head(pyramid(extractor(pad(images))))
        super().__init__(images, outputs, name=name, **kwargs)
        self.dtype_policy = policy  # which Keras does not take from a functional model's arguments

        # === Config ===
        self.preset = None  # what `from_preset` knows of the weights
        self.backbone = backbone
        self.feature_pyramid = pyramid
        self.head = head
        self.num_classes = num_classes
        self.bounding_box_format = bounding_box_format
        self.reg_max = reg_max
        self.fpn_channels = fpn_channels
        self.head_channels = head_channels
        self.head_depth = head_depth
        self.head_norm_groups = head_norm_groups
        self.fpn_relu = fpn_relu
        self.head_tower_bias = head_tower_bias
        self.quality_topk = quality_topk
        self.quality_channels = quality_channels
        self.quality_statistics = tuple(quality_statistics)
        self.prediction_decoder = prediction_decoder or PredictionDecoder()
        self.class_names = list(class_names) if class_names is not None else None
        self.image_size = tuple(image_size)

        # === Parts without weights ===
        self.integral = Integral(name="integral")
        self.assigner = assigner or ATSSAssigner()
        self._trackers = {name: keras.metrics.Mean(name=f"{name}_loss") for name in LOSS_WEIGHTS}
        self.faulty_boxes = FaultyBoxes()
        self._data_parallel_step = None
        self._one_device_prediction = None
        self.layer_settings = LayerSettings(self, without=backbone)
        if not trainable:
            self.trainable = False

    # === Training ===

    def compile(
        self,
        optimizer=None,
        classification_loss=None,
        box_loss=None,
        distribution_loss=None,
        *,
        recipe=None,
        loss_weights=None,
        jit_compile="auto",
        **kwargs,
    ):
        """Configures training; without arguments as in the paper.

        Args:
            optimizer: any Keras optimizer. Default: that of the recipe.
            classification_loss: a loss of targets and joint scores (B, A, C). Default
                `QualityFocalLoss()`. GFLV1 has logits for one with `from_logits=True`, as its
                default is.
            box_loss: a loss of boxes (B, A, 4), xyxy in strides. Default `GIoULoss()`.
            distribution_loss: a loss of distances (B, A, 4) in bins and logits
                (B, A, 4, reg_max + 1). Default `DistributionFocalLoss()`.
                Any of the three is an object, a function or the name of a loss of Keras. It must
                give one value per location, or one per class or coordinate, which are summed as
                the default losses sum them. Where a loss of Keras takes a mean over the classes or
                coordinates, as BinaryFocalCrossentropy and Huber do, the sum is used instead. How
                a loss reduces over the batch, and its dtype, are not used: the sum over all
                locations is divided by the positives, in float32.
            recipe: "1x" (default), "2x", "finetune", "scratch" or a `keras_gflv2.recipes.Recipe`,
                for the optimizer. Its learning rate is fitted to the images a step, and its
                schedule to the epochs, when `fit` sees them.
            loss_weights: dictionary with any of "classification" (1), "box" (2) and
                "distribution" (0.25).
            jit_compile: "auto" compiles with XLA on JAX only: on TensorFlow it would compile
                anew, for seconds, for every image size.
            **kwargs: as in `keras.Model.compile`, e.g. `run_eagerly`, `steps_per_execution`.

        Raises:
            ValueError: `loss` or `metrics` were given, both an optimizer and a recipe, or an
                unknown loss weight.

        Warns where a loss is not registered: a saved detector would not load with it.
        """
        for name, instead in (
            ("loss", "classification_loss, box_loss or distribution_loss"),
            ("metrics", "the callback keras_gflv2.evaluation.COCOMetrics"),
        ):
            if kwargs.pop(name, None) is not None:
                raise ValueError(f"GFLV2.compile takes no `{name}`; use {instead}.")
        unknown = set(loss_weights or {}) - set(LOSS_WEIGHTS)
        if unknown:
            raise ValueError(f"`loss_weights` has {sorted(unknown)}; known: {list(LOSS_WEIGHTS)}.")
        if getattr(classification_loss, "from_logits", False) and self.quality_statistics:
            raise ValueError(
                "`classification_loss` has from_logits=True, but GFLV2's joint score is a product "
                "of probabilities: it has no logit. Leave from_logits=False."
            )
        losses = {
            "classification_loss": classification_loss,
            "box_loss": box_loss,
            "distribution_loss": distribution_loss,
        }
        saving.warn_of_losses(losses)
        if optimizer is not None and recipe is not None:
            raise ValueError("`recipe` chooses the optimizer; pass one of the two.")
        self._recipe = None
        if optimizer is None:
            self._recipe = recipes.get(recipe or "1x")
            # The paper's, until `fit` sees the data.
            plan = self._recipe.plan(recipes.PAPER_NUM_IMAGES, recipes.PAPER_BATCH_SIZE)
            with replica_scope(self):
                optimizer = plan.optimizer(self)
        self._compile_arguments = {
            **losses,
            "loss_weights": loss_weights,
            "jit_compile": jit_compile,
            **kwargs,
        }
        if jit_compile == "auto" and keras.backend.backend() == "tensorflow":
            jit_compile = False
        self._term_losses = {
            "classification": keras.losses.get(classification_loss)
            or QualityFocalLoss(from_logits="class_logits" in self.output),
            "box": keras.losses.get(box_loss) or GIoULoss(),
            "distribution": keras.losses.get(distribution_loss) or DistributionFocalLoss(),
        }
        self._term_weights = {**LOSS_WEIGHTS, **(loss_weights or {})}
        with replica_scope(self):
            super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def get_compile_config(self):
        return saving.compile_config(self, self._compile_arguments) if self.compiled else None

    def compile_from_config(self, config):
        saving.compile_from_config(self, config)

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        validation_split=0.0,
        validation_data=None,
        invalid_boxes="warn",
        **kwargs,
    ):
        """`keras.Model.fit` on dictionaries or pairs; see `compute_loss` for their contents.

        Arrays, `tf.data` (ragged boxes too), `keras.utils.PyDataset`, PyTorch's DataLoader and
        generators. Every batch is checked when it is drawn, of training and validation. A recipe's
        schedule is fitted to the images per step, the steps and the epochs here.

        Args:
            invalid_boxes: what to do about boxes of unknown classes or without finite coordinates
                in data that only the graph sees, such as a dataset that a strategy has
                distributed: "warn" leaves them out and counts them at the end of each epoch,
                "raise" stops there. Everywhere else they are an error at once.
            **kwargs, and the others: as in `keras.Model.fit`.

        Raises:
            ValueError: a batch has boxes or classes that cannot be meant, or a dataset has other
                classes or another box format than the model.

        Warns of images whose pixels are not RGB in 0..255.
        """
        arguments = {
            "batch_size": batch_size,
            "epochs": epochs,
            "validation_split": validation_split,
            **kwargs,
        }
        if self._recipe:
            images, steps = training_size(x, y, arguments)
            images = images and images * processes_of(x)
            self._follow_recipe((images, steps), arguments, verbose)
        if y is None and not isinstance(x, (dict, keras.utils.PyDataset)):
            arguments.setdefault("shuffle", False)  # Keras warns that it cannot
        feeding, validation = self._feeding(), self._feeding()
        with self._guarded(feeding, validation):
            data, y = feeding.checked(x, y, batch_size)
            if validation_data is not None:
                pair = keras.utils.unpack_x_y_sample_weight(validation_data)
                size = kwargs.get("validation_batch_size") or batch_size
                pair = (*validation.checked(*pair[:2], size), *pair[2:])
                validation_data = keras.utils.pack_x_y_sample_weight(*pair)
            return super().fit(
                share_dataset(self, data),
                y,
                verbose=verbose,
                callbacks=with_callback(callbacks, TellOfData(feeding, invalid_boxes)),
                validation_data=validation_data,
                **arguments,
            )

    def evaluate(self, x=None, y=None, batch_size=None, verbose="auto", **kwargs):
        """`keras.Model.evaluate`: the losses, on what `fit` takes, checked as there."""
        if kwargs.get("_use_cached_eval_dataset"):  # validation, which `fit` has checked
            return super().evaluate(x, y, batch_size, verbose, **kwargs)
        feeding = self._feeding()
        with self._guarded(feeding):
            x, y = feeding.checked(x, y, batch_size)
            kwargs["callbacks"] = with_callback(kwargs.get("callbacks"), TellOfData(feeding))
            return super().evaluate(x, y, batch_size, verbose, **kwargs)

    def train_on_batch(self, x, y=None, **kwargs):
        """`keras.Model.train_on_batch`, checked as in `fit`."""
        x, y = self._feeding().checked(x, y)
        return super().train_on_batch(x, y, **kwargs)

    def test_on_batch(self, x, y=None, **kwargs):
        """`keras.Model.test_on_batch`, checked as in `fit`."""
        x, y = self._feeding().checked(x, y)
        return super().test_on_batch(x, y, **kwargs)

    @contextlib.contextmanager
    def _guarded(self, *feedings):
        """Within it, an error of the data comes out as it was, and the weights stay what they are.

        On JAX, Keras takes them out of the model while it trains: an error would lose them.
        """
        try:
            with own_errors(*feedings):
                yield
        except BaseException:
            if keras.backend.backend() == "jax":
                self.jax_state_sync()
            raise

    def _get_jax_state(self, **parts):
        separate_averages(getattr(self, "optimizer", None))
        state = super()._get_jax_state(**parts)
        # An error before the end of the first step finds them here.
        self._jax_state = dict(zip((part for part in JAX_STATE if parts.get(part)), state))
        return state

    def _feeding(self):
        return Feeding(DataContract.of(self), divisor=batch_divisor(self))

    def _follow_recipe(self, amount, arguments, verbose):
        """Sets the learning rate for (images a step, steps an epoch), either None if unknown."""
        batch_size, steps = amount
        epochs, first_epoch = arguments["epochs"], arguments.get("initial_epoch", 0)
        whole = getattr(self, "whole_training", None)
        if whole and whole.steps_per_epoch:
            steps = whole.steps_per_epoch  # not those of the rest of an epoch
        if batch_size is None or steps is None or epochs < 1:
            warnings.warn(
                f"The recipe {self._recipe.name} cannot see how many images this data has a step "
                f"and an epoch: its learning rate stays {self._recipe.learning_rate}, which is for "
                f"{recipes.PAPER_BATCH_SIZE} images. Pass a dataset with a length, or compile with "
                "an optimizer.",
                stacklevel=3,
            )
            return
        done = int(ops.convert_to_numpy(self.optimizer.iterations))
        plan = self._recipe.plan(
            batch_size * steps,
            batch_size,
            epochs=epochs,
            first_step=whole.first_step if whole else recipes.first_step(done, first_epoch, steps),
        )
        if whole and whole.plan == plan:
            return
        if whole:
            whole.plan = plan
        plan.apply_to(self.optimizer)
        self.train_function = None  # which has the old rate in its graph
        if verbose:
            print(f"GFLV2: {plan}")

    def make_train_function(self, force=False):
        # Variables made while TensorFlow traces a step have it trace the step a second time.
        if not self.optimizer.built:
            with replica_scope(self):
                build_optimizer(self.optimizer, self.trainable_variables)
        self._data_parallel_step = None
        if torch_processes() > 1:
            from keras_gflv2.training.data_parallel_step import DataParallelStep

            # Made anew by each `fit`: which weights train may have changed.
            self._data_parallel_step = DataParallelStep(self)
        return super().make_train_function(force)

    def _maybe_symbolic_build(self, *args, **kwargs):
        # Keras would build the model from the mean of a batch over all replicas, which dictionaries
        # do not have under MultiWorkerMirroredStrategy. This one is built when it is made.
        pass

    def get_metrics_result(self):
        result = super().get_metrics_result()
        result.pop(FaultyBoxes.NAME, None)  # told of at the end of an epoch, if at all
        return result

    def train_step(self, *args):
        # JAX passes its state before the data.
        images, targets = unpack(args[-1], need_targets=True)
        if self._data_parallel_step:
            return self._data_parallel_step(images, targets)
        return replica_logs(super().train_step(*args[:-1], (images, targets)))

    def test_step(self, *args):
        images, targets = unpack(args[-1], need_targets=True)
        return replica_logs(super().test_step(*args[:-1], (images, targets)))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Weighted sum of the three losses, normalised over all replicas.

        Args:
            x: images (B, H, W, 3).
            y: {"boxes": (B, N, 4) in `bounding_box_format`, "classes": (B, N), -1 = padding};
                optional "ignored" (B, N), non-zero for boxes to be left out; "image_sizes" (B, 2),
                height and width of each image inside the batch.
            y_pred: what calling the model returns.
        """
        del sample_weight
        height, width = ops.shape(x)[1:3]
        shapes = self._level_shapes(height, width)
        y, num_faulty = usable(at_least_one_box(y), self.num_classes)
        self.faulty_boxes.update_state(num_faulty)
        boxes = self.convert_boxes(y["boxes"], "xyxy", height, width)
        assigned, counted = self.assigner(
            boxes, y["classes"], shapes, STRIDES, y.get("image_sizes"), y.get("ignored")
        )
        losses = self._loss_terms(boxes, y["classes"], assigned, counted, shapes, y_pred)
        replicas = number_of_replicas()
        for name, value in losses.items():
            # Every replica holds its part of the sum.
            # TensorFlow counts a constant weight of the step that finds no more data, too.
            weight = 1.0 + 0.0 * ops.stop_gradient(value)
            self._trackers[name].update_state(loss_in_logs(value), sample_weight=weight)
        total = sum(losses.values())
        if self.losses:
            total = total + sum(self.losses) / replicas
        return total if training or torch_processes() == 1 else loss_in_logs(total)

    def _loss_terms(self, boxes, classes, assigned, counted, shapes, y_pred):
        """The three weighted losses of one batch; `boxes` xyxy in pixels."""
        scores, distributions = y_pred["scores"], y_pred["box_distributions"]
        points, strides = box_ops.locations(shapes, STRIDES)
        points = points / strides  # in strides from here on, as the distributions are
        positive = assigned >= 0  # (B, A)
        box_index = ops.maximum(assigned, 0)
        target_boxes = ops.take_along_axis(boxes, box_index[..., None], axis=1) / strides
        # A location without an object gets the unit box around it: finite, with weight zero.
        unit = box_ops.boxes_from_distances(points, ops.ones_like(target_boxes))
        target_boxes = ops.where(positive[..., None], target_boxes, unit)  # (B, A, 4)
        predicted = box_ops.boxes_from_distances(points, self.integral(distributions))

        # Joint representation: the IoU at the object's class, 0 elsewhere (Eq. 1).
        quality = box_ops.iou(ops.stop_gradient(predicted), target_boxes)
        quality = ops.where(positive, quality, 0.0)
        target_class = ops.take_along_axis(ops.cast(classes, "int32"), box_index, axis=1)
        one_hot = ops.one_hot(target_class, self.num_classes, dtype="float32")
        loss_of_logits = getattr(self._term_losses["classification"], "from_logits", False)
        predictions = y_pred["class_logits"] if loss_of_logits else scores
        target = quality[..., None] * one_hot
        classification = self._per_location("classification", target, predictions)
        # As in the official code an image without an object counts as one with one positive.
        in_image = ops.maximum(ops.sum(ops.cast(positive, "float32"), axis=1), 1.0)
        num_positive = sum_over_replicas(ops.sum(in_image))

        # Boxes weigh as much as they are trusted: the detached joint score.
        trust = ops.where(positive, ops.stop_gradient(ops.max(scores, axis=-1)), 0.0)
        total_trust = sum_over_replicas(ops.sum(trust))
        total_trust = ops.where(total_trust > 0, total_trust, 1.0)
        box = self._per_location("box", target_boxes, predicted)
        distances = box_ops.distances_from_boxes(points, target_boxes)
        distribution = self._per_location("distribution", distances, distributions) / 4
        return {
            "classification": self._term_weights["classification"]
            * ops.sum(ops.where(counted, classification, 0.0))
            / num_positive,
            "box": self._term_weights["box"] * ops.sum(box * trust) / total_trust,
            "distribution": self._term_weights["distribution"]
            * ops.sum(distribution * trust)
            / total_trust,
        }

    def _per_location(self, name, y_true, y_pred):
        return per_location(self._term_losses[name], y_true, y_pred, f"{name}_loss")

    # === Inference ===

    def predict(self, x, *args, **kwargs):
        """Detections in a batch, an array or a dataset of images.

        Batches run as they are padded, and padding changes scores a little: normalization over
        groups of channels sees it. `detect` and evaluation pad each image by itself.

        Args:
            x: images (B, H, W, 3), a dictionary with "images" and, optionally, "image_sizes", or
                a dataset of either.

        Returns:
            Dictionary of numpy arrays: "boxes" (B, D, 4) in `bounding_box_format`, "classes"
            (B, D), "confidence" (B, D), best first, -1 after the last; "num_detections" (B,).
        """
        feeding = Feeding(DataContract.of(self), need_targets=False)
        with self._guarded(feeding):
            x, _ = feeding.checked(x)
            return _without_uncertainties(super().predict(x, *args, **kwargs))

    def predict_on_batch(self, x):
        """As `predict`, for one batch, of any size, on one device."""
        images = unpack(x)[0]
        if isinstance(images, np.ndarray):
            check_pixels(images)
        return _without_uncertainties(self._detect_batch(x))

    def _detect_batch(self, batch):
        if not is_spread(self):
            return super().predict_on_batch(batch)
        if self._one_device_prediction is None:
            self._one_device_prediction = OneDevicePrediction(self)
        return self._one_device_prediction(batch)

    def predict_step(self, *args):
        images, targets = unpack(args[-1])
        outputs = super().predict_step(*args[:-1], (images,))
        if isinstance(outputs, tuple):  # JAX returns the state too
            outputs, state = outputs
            return self._decode(outputs, images, targets.get("image_sizes")), state
        return self._decode(outputs, images, targets.get("image_sizes"))

    def decode_predictions(self, predictions, images, image_sizes=None, **thresholds):
        """Turns what calling the model returns into detections, as `predict` does.

        Args:
            predictions: {"scores", "box_distributions"}.
            images: the images (B, H, W, 3) that they are of.
            image_sizes: (B, 2) height and width of each image inside the batch; boxes are clipped
                to it. Default: the batch's size.
            **thresholds: `score_threshold` or `nms_iou_threshold`, (B,), other than those of the
                decoder.
        """
        return _without_uncertainties(self._decode(predictions, images, image_sizes, **thresholds))

    def _decode(self, predictions, images, image_sizes, **thresholds):
        """Detections with "uncertainties" (B, D, 4): standard deviation of each side, in pixels."""
        height, width = ops.shape(images)[1:3]
        if image_sizes is None:
            image_sizes = ops.stack([height, width])[None]
        boxes, lengths = self.locate(predictions, height, width)
        detections = dict(
            self.prediction_decoder(
                predictions["scores"],
                self.clip_boxes(boxes, image_sizes),
                locations_per_level=lengths,
                **thresholds,
            )
        )
        locations = detections.pop("locations", None)
        if locations is not None:
            shapes = self._level_shapes(height, width)
            spread = self._uncertainties(predictions["box_distributions"], locations, shapes)
            detections["uncertainties"] = ops.where(locations[..., None] >= 0, spread, -1.0)
        return self.finish_detections(detections, height, width)

    def locate(self, predictions, height, width):
        """Boxes (B, A, 4) of all locations, xyxy in pixels, and how many each level has.

        Args:
            predictions: what calling the model returns.
            height, width: size of the images that they are of.
        """
        shapes = self._level_shapes(height, width)
        points, strides = box_ops.locations(shapes, STRIDES)
        distances = self.integral(predictions["box_distributions"]) * strides
        boxes = box_ops.boxes_from_distances(points, distances)
        return boxes, [rows * columns for rows, columns in shapes]

    def clip_boxes(self, boxes, image_sizes):
        """Boxes (B, A, 4), xyxy, cut at the edges of each image: `image_sizes` (B, 2) in pixels."""
        sizes = ops.cast(image_sizes, "float32")[:, None]  # (B, 1, 2)
        return box_ops.clip(boxes, sizes[..., :1], sizes[..., 1:])

    def finish_detections(self, detections, height, width):
        """The decoder's detections with their boxes in `bounding_box_format`, -1 after the last."""
        present = detections["classes"][..., None] >= 0
        converted = _convert(detections["boxes"], "xyxy", self.bounding_box_format, height, width)
        return {**detections, "boxes": ops.where(present, converted, -1.0)}

    def _uncertainties(self, distributions, locations, shapes):
        """Standard deviation (B, D, 4) in pixels of the sides predicted at `locations` (B, D)."""
        _, strides = box_ops.locations(shapes, STRIDES)
        index = ops.maximum(locations, 0)
        chosen = ops.take_along_axis(distributions, index[..., None, None], axis=1)
        return self._standard_deviation(chosen) * ops.take(strides, index, axis=0)

    def _standard_deviation(self, distributions):
        """Standard deviation (...) in bins of distributions (..., n + 1) given as logits."""
        probabilities = ops.softmax(distributions, axis=-1)
        bins = ops.arange(self.reg_max + 1, dtype="float32")
        offset = bins - self.integral(distributions)[..., None]
        return ops.sqrt(ops.sum(probabilities * ops.square(offset), axis=-1))

    def detect(self, images, score_threshold=0.3, image_size=None, batch_size=8, *, predict=None):
        """Detections in images of any sizes, in each image's own pixels.

        Args:
            images: one or a list of what `images.read_image` takes: paths, encoded bytes, PIL
                images or arrays (H, W, 3) RGB in 0..255. They are read one after another, and one
                that cannot be read is an error.
            score_threshold: detections below are left out.
            image_size: (short side, longest long side) to resize to. Default: `self.image_size`.
            batch_size: images of like size are run together, at most so many.
            predict: function that finds the detections of a batch. Default: this model's; the
                `predict_on_batch` of a `TestTimeAugmentation`, for example.

        Returns:
            List of a dictionary an image: "boxes" (n, 4) float32 xyxy in pixels of that image,
            "classes" (n,), "confidence" (n,), best first, "class_names" (list of n strings) and
            "uncertainties" (n, 4): standard deviation of the left, top, right and bottom side.
        """
        if not isinstance(images, (list, tuple)):
            images = [images]
        image_size = image_size or self.image_size
        predict = predict or self._detect_batch
        results = [None] * len(images)
        waiting = {}  # canvas -> (index, original size, resized image): no original is kept

        def run(canvas):
            members = waiting.pop(canvas)
            indices, originals, resized = zip(*members)
            found = predict(self._canvas_batch(resized, canvas))
            for row, index in enumerate(indices):
                one = {k: np.array(v[row]) for k, v in found.items()}
                results[index] = self._to_original(
                    one, originals[row], resized[row].shape[:2], canvas, score_threshold
                )

        for index, source in enumerate(images):
            image = read_image(source)
            resized = resize_image(image, resize_shape(image.shape[:2], image_size))
            canvas = tuple(
                box_ops.ceil_divide(n, SIZE_MULTIPLE) * SIZE_MULTIPLE for n in resized.shape[:2]
            )
            waiting.setdefault(canvas, []).append((index, image.shape[:2], resized))
            if len(waiting[canvas]) >= batch_size:
                run(canvas)
        for canvas in sorted(waiting):
            run(canvas)
        return results

    def _canvas_batch(self, images, canvas):
        batch = np.tile(np.float32(self.padding_colour), (len(images), *canvas, 1))
        for row, image in enumerate(images):
            batch[row, : image.shape[0], : image.shape[1]] = image
        return {"images": batch, "image_sizes": np.array([i.shape[:2] for i in images], "int32")}

    def _to_original(self, found, original, resized, canvas, score_threshold):
        """One row of `predict`'s answer -> detections in the pixels of the original image."""
        keep = (found["classes"] >= 0) & (found["confidence"] > score_threshold)
        boxes = ops.convert_to_numpy(self.convert_boxes(found["boxes"][keep], "xyxy", *canvas))
        scale = np.float32([original[1] / resized[1], original[0] / resized[0]] * 2)
        classes = found["classes"][keep].astype("int32")
        names = self.class_names or [str(i) for i in range(self.num_classes)]
        result = {
            "boxes": boxes.reshape(-1, 4).astype("float32") * scale,
            "classes": classes,
            "confidence": found["confidence"][keep],
            "class_names": [names[c] for c in classes],
        }
        if "uncertainties" in found:
            result["uncertainties"] = found["uncertainties"][keep] * scale
        return result

    # === Geometry ===

    def _level_shapes(self, height, width):
        """Rows and columns of every level for a batch of this size before it is padded."""
        height = box_ops.ceil_divide(height, SIZE_MULTIPLE) * SIZE_MULTIPLE
        width = box_ops.ceil_divide(width, SIZE_MULTIPLE) * SIZE_MULTIPLE
        return box_ops.level_shapes(height, width, STRIDES)

    @property
    def padding_colour(self):
        """RGB in 0..255 that becomes zero in the network: what is outside of an image."""
        return tuple(float(v) for v in getattr(self.backbone, "pixel_mean", PIXEL_MEAN))

    def convert_boxes(self, boxes, target, height, width):
        """Boxes (..., 4) of the model's format in another; `height`, `width` of the batch."""
        return _convert(boxes, self.bounding_box_format, target, height, width)

    # === Saving ===

    presets = presets.descriptions()

    @classmethod
    def from_preset(cls, preset, load_weights=True, **overrides):
        """A detector with trained weights.

        Published weights are downloaded once, converted, and kept in Keras's cache folder.

        Args:
            preset: a name in `GFLV2.presets`, a folder that `save_to_preset` wrote, or an hf:// or
                kaggle:// handle of one.
            load_weights: False gives the architecture with fresh weights, without a network.
            **overrides: constructor arguments to change, e.g. `class_names`, `num_classes`,
                `bounding_box_format`. The rows of the classification convolution follow the class
                names; those of other names, or without names of another number, start anew.

        Raises:
            ValueError: there is no such preset; or a folder is not whole, names classes that are
                not loaded from files, or has sizes or values that its weights cannot have.
            keras_gflv2.checkpoints.DownloadError: the weights cannot be had; the message says from
                where, and how to go on without a network.
        """
        return presets.load(cls, preset, load_weights, overrides)

    def save_to_preset(self, directory, weights_dtype=None):
        """Writes configuration and weights to a folder that `from_preset` loads exactly.

        Args:
            directory: folder to write, made if it is not there.
            weights_dtype: "float16" stores the weights in half the size, rounded.

        Returns:
            Path of the folder.
        """
        return save_to_directory(self, directory, weights_dtype)

    def load_own_variables(self, store):
        check_store(store)  # Keras gives the whole file to the model, before its layers.
        super().load_own_variables(store)

    def plain_arguments(self):
        """Arguments of the constructor that are numbers and names."""
        return {
            "num_classes": self.num_classes,
            "bounding_box_format": self.bounding_box_format,
            "reg_max": self.reg_max,
            "fpn_channels": self.fpn_channels,
            "head_channels": self.head_channels,
            "head_depth": self.head_depth,
            "head_norm_groups": self.head_norm_groups,
            "fpn_relu": self.fpn_relu,
            "head_tower_bias": self.head_tower_bias,
            "quality_topk": self.quality_topk,
            "quality_channels": self.quality_channels,
            "quality_statistics": self.quality_statistics,
            "class_names": self.class_names,
            "image_size": self.image_size,
            "name": self.name,
        }

    def get_config(self):
        return {
            **self.plain_arguments(),
            "trainable": self.trainable,
            **saving.parts_config(self),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The detector of `get_config`.

        Args:
            config: the dictionary. With a `dtype` that is a policy or its name, instead of the
                serialised one that was saved, all parts get it.
            custom_objects: {name: class or function} of parts that are not registered.
        """
        return saving.from_config(cls, config, custom_objects)


def feature_extractor(backbone):
    """A model from images to {"P3", "P4", "P5"}, out of any of the kinds of backbone."""
    outputs = None
    if hasattr(backbone, "pyramid_outputs"):  # KerasHub
        outputs = backbone.pyramid_outputs
    elif hasattr(backbone, "pyramid_level_inputs"):  # KerasCV
        outputs = {
            level: backbone.get_layer(name).output
            for level, name in backbone.pyramid_level_inputs.items()
        }
    elif isinstance(getattr(backbone, "output", None), dict):
        outputs = backbone.output
    outputs = {f"P{k}" if isinstance(k, int) else k: v for k, v in (outputs or {}).items()}
    missing = [level for level in LEVELS[:3] if level not in outputs]
    if missing:
        raise ValueError(
            "`backbone` must be a Keras model with the outputs P3, P4 and P5 (a dictionary, "
            "`pyramid_level_inputs` as KerasCV's or `pyramid_outputs` as KerasHub's); "
            f"{missing} missing in {type(backbone).__name__}."
        )
    taken = backbone.inputs[0].shape
    if len(taken) != 4 or taken[-1] != 3:
        raise ValueError(
            f"`backbone` must take images (B, H, W, 3), channels last; {type(backbone).__name__} "
            f"takes {tuple(taken)}. Where keras.json says channels_first, build it with "
            '`data_format="channels_last"`, or first call '
            '`keras.config.set_image_data_format("channels_last")`.'
        )
    if list(outputs) == list(LEVELS[:3]) and isinstance(getattr(backbone, "output", None), dict):
        return backbone
    return keras.Model(
        backbone.inputs[0], {level: outputs[level] for level in LEVELS[:3]}, name="features"
    )


def _convert(boxes, source, target, height, width):
    """Box format conversion; relative formats refer to `height` and `width`."""
    boxes = ops.cast(boxes, "float32")
    if source.lower() == target.lower():
        return boxes
    return keras.utils.bounding_boxes.convert_format(
        boxes, source=source, target=target, height=height, width=width, dtype="float32"
    )


def _without_uncertainties(detections):
    return {k: v for k, v in detections.items() if k != "uncertainties"}
