"""How a detector is trained with `fit`: a batch goes in, checked, and its losses come out."""

import contextlib
import warnings

import keras
from keras import ops

from keras_gflv2 import recipes
from keras_gflv2.annotations import Loss
from keras_gflv2.contract import DataContract, unpack
from keras_gflv2.optimizers import build_optimizer, order_like_weights, separate_averages
from keras_gflv2.replicas import (
    batch_divisor,
    loss_in_logs,
    number_of_replicas,
    processes_of,
    replica_logs,
    replica_scope,
    share_dataset,
    torch_processes,
)
from keras_gflv2.training import compiling
from keras_gflv2.training.faulty_boxes import FaultyBoxes
from keras_gflv2.training.feeding import Feeding, own_errors
from keras_gflv2.training.sources import training_size
from keras_gflv2.training.tell_of_data import TellOfData, with_callback

# Parts of a training's state on JAX, in Keras's order.
JAX_STATE = (
    "trainable_variables",
    "non_trainable_variables",
    "optimizer_variables",
    "metrics_variables",
)


class DetectorTraining(keras.Model):
    """What a dense detector has of training: `compile`, `fit`, `evaluate` and what they call.

    A subclass has the attributes `num_classes`, `bounding_box_format`, `class_names` and
    `criterion`, and the methods `losses_of_batch`, `recompute` and `drop_calibration`.
    """

    teacher = None  # the `Teacher` that `keras_gflv2.training.distill` gave it

    def prepare_training(self):
        """Called once, at the end of the constructor."""
        self.faulty_boxes = FaultyBoxes()
        self._trackers = {
            name: keras.metrics.Mean(name=f"{name}_loss") for name in self.criterion.names
        }
        self._data_parallel_step = None
        self._trained_criterion = self.criterion

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | None = None,
        classification_loss: Loss = None,
        box_loss: Loss = None,
        distribution_loss: Loss = None,
        quality_loss: Loss = None,
        *,
        recipe: str | recipes.Recipe | None = None,
        loss_weights: dict[str, float] | None = None,
        jit_compile: str | bool = "auto",
        recompute: bool = False,
        **kwargs,
    ) -> None:
        """Configures training; without arguments as in the paper.

        Args:
            optimizer: any Keras optimizer. Default: that of the recipe.
            classification_loss: a loss of targets and scores (B, A, C), instead of the
                criterion's. Where the outputs have "class_logits", one with `from_logits=True` is
                a loss of these.
            box_loss: a loss of boxes (B, A, 4), xyxy in strides; of raw numbers for detectors whose
                criterion has it so (RetinaNet, FoveaBox).
            distribution_loss: a loss of distances (B, A, 4) in bins and logits
                (B, A, 4, reg_max + 1), for detectors with general distributions.
            quality_loss: a loss of targets and logits (B, A, 1), for detectors with a branch of
                quality.
                Any of the four is an object, a function or the name of a loss of Keras. It must
                give one value per location, or one per class or coordinate, which are summed as
                the default losses sum them. Where a loss of Keras takes a mean over the classes or
                coordinates, as BinaryFocalCrossentropy and Huber do, the sum is used instead. How
                a loss reduces over the batch, and its dtype, are not used: the sum over all
                locations is divided by the positives, in float32.
            recipe: "1x" (default), "2x", "finetune", "scratch" or a `keras_gflv2.recipes.Recipe`,
                for the optimizer. Its learning rate is fitted to the images per step, and its
                schedule to the epochs, when `fit` sees them.
            loss_weights: {name of a term of the criterion: weight}, e.g. "classification", "box"
                and "distribution".
            jit_compile: "auto" compiles with XLA on JAX only: on TensorFlow it would compile
                anew, for seconds, for every image size.
            recompute: True computes maps inside the backbone's blocks and the head's towers a
                second time for the gradients, instead of keeping them. A step takes longer and, on
                TensorFlow, less memory: 2.1 GB instead of 2.6 for ResNet-50 and 2 images of
                640x640, next to nothing at 320x320. JAX on a CPU gains nothing. Backbones of Keras,
                KerasCV and KerasHub, and those with live batch statistics, keep their maps.
            **kwargs: as in `keras.Model.compile`, e.g. `run_eagerly`, `steps_per_execution`.

        Raises:
            ValueError: `loss` or `metrics` were given, both an optimizer and a recipe, a loss of
                logits where there are none, or a loss or weight of an unknown term.

        Warns where a loss is not registered: a saved detector would not load with it.
        """
        losses = {
            "classification_loss": classification_loss,
            "box_loss": box_loss,
            "distribution_loss": distribution_loss,
            "quality_loss": quality_loss,
        }
        self._check_compile_arguments(losses, loss_weights, kwargs)
        compiling.warn_of_losses(losses)
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
            "recompute": recompute,
            **kwargs,
        }
        self.recompute(recompute)
        if jit_compile == "auto" and keras.backend.backend() == "tensorflow":
            jit_compile = False
        chosen = {
            name.removesuffix("_loss"): keras.losses.get(loss)
            for name, loss in losses.items()
            if loss is not None
        }
        self._trained_criterion = self.criterion.replace(chosen, loss_weights or {})
        if self.teacher:
            self._trackers.pop(self.teacher.term.name)  # which ends its tracking, as `del` does not
            self.teacher = None
        with replica_scope(self):
            super().compile(optimizer=optimizer, jit_compile=jit_compile, **kwargs)

    def _check_compile_arguments(self, losses, loss_weights, kwargs):
        """Raises ValueError for what `compile` does not take; removes empty ones from `kwargs`."""
        for name, instead in (
            ("loss", "classification_loss, box_loss or distribution_loss"),
            ("metrics", "the callback keras_gflv2.evaluation.COCOMetrics"),
        ):
            if kwargs.pop(name, None) is not None:
                raise ValueError(f"{type(self).__name__}.compile takes no `{name}`; use {instead}.")
        terms = self.criterion.names
        unknown = sorted(set(loss_weights or {}) - set(terms))
        if unknown:
            raise ValueError(f"`loss_weights` has {unknown}; known: {list(terms)}.")
        for name, loss in losses.items():
            if loss is not None and name.removesuffix("_loss") not in terms:
                raise ValueError(
                    f"`{name}` has no place in this {type(self).__name__}: the terms of its "
                    f"criterion are {list(terms)}."
                )
        of_logits = getattr(losses["classification_loss"], "from_logits", False)
        if of_logits and "class_logits" not in self.output:
            raise ValueError(
                "`classification_loss` has from_logits=True, but the joint score of this "
                f"{type(self).__name__} is a product of probabilities: it has no logit. Leave "
                "from_logits=False."
            )

    def take_teacher(self, teacher):
        """Trains towards a `Teacher`, too; see `keras_gflv2.training.distill`."""
        name = teacher.term.name
        if self.teacher:
            raise ValueError("This student has a teacher. Compile it again to give it another.")
        self._trained_criterion = self._trained_criterion.with_term(teacher.term)
        self._trackers[name] = keras.metrics.Mean(name=f"{name}_loss")
        self.teacher = teacher
        self.train_function = self.test_function = None

    @property
    def non_trainable_variables(self):
        variables = super().non_trainable_variables
        return variables + self.teacher.state if self.teacher else variables

    def get_compile_config(self):
        return compiling.compile_config(self, self._compile_arguments) if self.compiled else None

    def compile_from_config(self, config):
        compiling.compile_from_config(self, config)

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
        self.drop_calibration()
        if self._recipe:
            images, steps = training_size(x, y, arguments)
            images = images and images * processes_of(x)
            self._fit_schedule((images, steps), arguments, verbose)
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
        with self._teaching():
            return super().train_on_batch(x, y, **kwargs)

    def test_on_batch(self, x, y=None, **kwargs):
        """`keras.Model.test_on_batch`, checked as in `fit`."""
        x, y = self._feeding().checked(x, y)
        with self._teaching():
            return super().test_on_batch(x, y, **kwargs)

    def _teaching(self):
        return self.teacher.in_state() if self.teacher else contextlib.nullcontext()

    @contextlib.contextmanager
    def _guarded(self, *feedings):
        """Within it, an error of the data comes out as it was, and the weights stay what they are.

        On JAX, Keras takes them out of the model while it trains: an error would lose them.
        """
        try:
            with self._teaching(), own_errors(*feedings):
                yield
        except BaseException:
            if keras.backend.backend() == "jax":
                with self._teaching():
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

    def _fit_schedule(self, size, arguments, verbose):
        """Sets the learning rate for (images per step, steps per epoch), either None if unknown."""
        batch_size, steps = size
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
            print(f"{type(self).__name__}: {plan}")

    def make_train_function(self, force=False):
        # Variables made while TensorFlow traces a step have it trace the step a second time.
        if not self.optimizer.built:
            with replica_scope(self):
                build_optimizer(self.optimizer, self.trainable_variables)
        if keras.backend.backend() == "torch":
            order_like_weights(self.optimizer)
        self._data_parallel_step = None
        if torch_processes() > 1:
            from keras_gflv2.training.torch_parallel import DataParallelStep

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
        """Weighted sum of the losses of the criterion, normalized over all replicas.

        Args:
            x: images (B, H, W, 3).
            y: {"boxes": (B, N, 4) in `bounding_box_format`, "classes": (B, N), -1 = padding};
                optional "ignored" (B, N), non-zero for boxes to be left out; "image_sizes" (B, 2),
                height and width of each image inside the batch.
            y_pred: what calling the model returns.
        """
        del sample_weight
        if self.teacher:
            y_pred = {**y_pred, **self.teacher(x)}
        losses, num_faulty = self.losses_of_batch(self._trained_criterion, x, y, y_pred)
        self.faulty_boxes.update_state(num_faulty)
        for name, value in losses.items():
            # Every replica holds its part of the sum.
            # TensorFlow counts a constant weight of the step that finds no more data, too.
            weight = 1.0 + 0.0 * ops.stop_gradient(value)
            self._trackers[name].update_state(loss_in_logs(value), sample_weight=weight)
        total = sum(losses.values())
        if self.losses:
            total = total + sum(self.losses) / number_of_replicas()
        return total if training or torch_processes() == 1 else loss_in_logs(total)
