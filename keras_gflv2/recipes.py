"""How to train: the paper's schedules, and others where its data and pretrained weights are absent.

A recipe follows from the number of images, the images a step and the epochs: whoever changes the
batch size and not the learning rate gets losses in the thousands.
"""

import contextlib
import dataclasses
import math

import keras
from keras import ops

from keras_gflv2.optimizers import inner_optimizer

PAPER_BATCH_SIZE = 16
PAPER_NUM_IMAGES = 117_266  # of COCO train2017, those with boxes


@keras.saving.register_keras_serializable(package="keras_gflv2")
class SGDWithL2(keras.optimizers.Optimizer):
    """SGD whose weight decay is part of the gradient, as PyTorch's is.

    `v = momentum * v + gradient + weight_decay * w`, then `w = w - learning_rate * v`. The
    `weight_decay` of `keras.optimizers` is decoupled from the gradient and its momentum holds the
    learning rate: both train differently from the official code.

    Args:
        learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
        momentum: 0 for none.
        l2: weight of the L2 term on every trainable variable.
        **kwargs: as in `keras.optimizers.Optimizer`, e.g. `global_clipnorm`.
    """

    def __init__(
        self, learning_rate=0.01, momentum: float = 0.9, l2: float = 1e-4, name="sgd", **kwargs
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.l2 = l2

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = [
            self.add_variable_from_reference(variable, name="momentum") for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        momentum = self.momentums[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        velocity = self.momentum * momentum + gradient
        self.assign(momentum, velocity)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * velocity)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "l2": self.l2}


@keras.saving.register_keras_serializable(package="keras_gflv2")
class WarmUpStepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a tenth at each boundary (GFLV2, section 4).

    Args:
        peak: learning rate after the warm-up; the paper's 0.01 is for 16 images a batch.
        boundaries: steps at which it is multiplied by `factor`.
        warmup_steps: length of the warm-up, which starts at `warmup_ratio` of the peak.
    """

    def __init__(self, peak=0.01, boundaries=(), warmup_steps=500, warmup_ratio=0.001, factor=0.1):
        self.peak = peak
        self.boundaries = tuple(int(b) for b in boundaries)
        self.warmup_steps = warmup_steps
        self.warmup_ratio = warmup_ratio
        self.factor = factor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.peak * _warm_up(step, self.warmup_steps, self.warmup_ratio)
        for boundary in self.boundaries:
            rate = ops.where(step >= boundary, rate * self.factor, rate)
        return rate

    def get_config(self):
        return {
            "peak": self.peak,
            "boundaries": self.boundaries,
            "warmup_steps": self.warmup_steps,
            "warmup_ratio": self.warmup_ratio,
            "factor": self.factor,
        }


@keras.saving.register_keras_serializable(package="keras_gflv2")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine from the peak down to a part of it.

    Args:
        peak: learning rate after the warm-up.
        start, end: steps between which the cosine falls; it is level before and after.
        warmup_steps: length of the warm-up, which starts at `floor` of the peak.
        floor: part of the peak that is left at `end`.
    """

    def __init__(self, peak, start, end, warmup_steps=100, floor=0.01):
        self.peak = peak
        self.start, self.end = int(start), int(end)
        self.warmup_steps = warmup_steps
        self.floor = floor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        progress = (step - self.start) / max(self.end - self.start, 1)
        fall = 0.5 * (1.0 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0)))
        rate = self.peak * (self.floor + (1.0 - self.floor) * fall)
        return rate * _warm_up(step, self.warmup_steps, self.floor)

    def get_config(self):
        return {
            "peak": self.peak,
            "start": self.start,
            "end": self.end,
            "warmup_steps": self.warmup_steps,
            "floor": self.floor,
        }


def _warm_up(step, length, ratio):
    """Factor of the learning rate: from `ratio` at step 0 to 1 at step `length`."""
    return ratio + (1.0 - ratio) * ops.minimum(step / max(length, 1), 1.0)


@keras.saving.register_keras_serializable(package="keras_gflv2")
@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to train, for any data: `plan` fits it to yours.

    ```python
    model.compile(recipe="2x")  # fit sees the images a step and the epochs
    model.fit(train_ds, epochs=24)
    ```

    Attributes:
        name: what `compile(recipe=...)` and `keras-gflv2 train --recipe` take.
        description: one line.
        epochs: passes over the data.
        sgd: whether it is the paper's SGD (rate in proportion to the batch); else AdamW (to its
            root).
        learning_rate: peak for 16 images a step.
        warmup_steps: at most; never more than a quarter of the training.
        decays: parts of the training after which the rate falls to a tenth; empty for a cosine.
        short_sides: range from which the short side of a batch is drawn, in parts of the image
            size's; the paper's 480..960 is 0.6..1.2 of 800.
        ema: momentum of the average of the weights that replaces them in the end; 0 for none. In
            a short training less: it averages over a twentieth of the steps at most.
    """

    name: str
    description: str
    epochs: int
    sgd: bool
    learning_rate: float
    warmup_steps: int
    decays: tuple = ()
    short_sides: tuple = (1.0, 1.0)
    ema: float = 0.0

    def get_config(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config):
        lists = {name: tuple(config[name]) for name in ("decays", "short_sides")}
        return cls(**{**config, **lists})

    def plan(
        self, num_images, batch_size, devices=1, *, epochs=None, learning_rate=None, first_step=0
    ):
        """This recipe for a number of images.

        Args:
            num_images: images of an epoch.
            batch_size: images a step on each device.
            devices: how many of them train together.
            epochs: instead of the recipe's; decays move along.
            learning_rate: peak, instead of the recipe's scaled one.
            first_step: `optimizer.iterations` where the training begins, if not at 0.

        Returns:
            `Plan`.

        Raises:
            ValueError: a number is not positive.
        """
        epochs = self.epochs if epochs is None else epochs
        for name, value in (
            ("num_images", num_images),
            ("batch_size", batch_size),
            ("devices", devices),
            ("epochs", epochs),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        global_batch = batch_size * devices
        steps_per_epoch = math.ceil(num_images / global_batch)
        if learning_rate is None:
            learning_rate = self.peak(global_batch)
        return Plan(self, global_batch, steps_per_epoch, epochs, learning_rate, first_step)

    def peak(self, images):
        """The highest learning rate for so many images an update."""
        scale = images / PAPER_BATCH_SIZE
        return self.learning_rate * (scale if self.sgd else math.sqrt(scale))

    def image_size(self, short, longest):
        """`image_size` of a training dataset: with a range of short sides where there is one.

        The paper's (800, 1333) becomes ((480, 960), 1333).
        """
        low, high = (round(part * short) for part in self.short_sides)
        return (short, longest) if low == high else ((low, high), max(high, longest))


@dataclasses.dataclass(frozen=True)
class Plan:
    """A recipe for one dataset: what `Recipe.plan` returns.

    Attributes:
        recipe: the `Recipe`.
        batch_size: images a step on all devices.
        steps_per_epoch, epochs: the length of the training.
        learning_rate: its peak.
        first_step: step of the optimizer at which it begins.
    """

    recipe: Recipe
    batch_size: int
    steps_per_epoch: int
    epochs: int
    learning_rate: float
    first_step: int = 0

    @property
    def steps(self):
        """Steps of the whole training."""
        return self.steps_per_epoch * self.epochs

    @property
    def decay_epochs(self):
        """Epochs after which the learning rate falls to a tenth."""
        # A training in pieces of an epoch or two has no third of which it could be the last.
        return [round(part * self.epochs) for part in self.recipe.decays] if self.epochs > 2 else []

    def schedule(self):
        """The learning rate as a function of the optimizer's step."""
        warmup = min(self.recipe.warmup_steps, max(self.steps // 4, 1))
        if self.recipe.decays:
            boundaries = [self.first_step + e * self.steps_per_epoch for e in self.decay_epochs]
            return WarmUpStepDecay(self.learning_rate, boundaries, warmup)
        end = self.first_step + self.steps
        return WarmUpCosine(self.learning_rate, self.first_step, end, warmup)

    @property
    def averaging_momentum(self):
        """Momentum of the average of the weights; 0 for none."""
        # 0.998 over 1248 steps cost 2.6 AP on BCCD: the weights of the start weigh too much.
        return min(self.recipe.ema, max(1.0 - 20.0 / self.steps, 0.0))

    def apply_to(self, optimizer):
        """Gives an optimizer of this recipe, wrapped or not, the schedule and average of this plan.

        A step that was compiled with the old ones must be compiled again.
        """
        optimizer = inner_optimizer(optimizer)
        optimizer.learning_rate = self.schedule()
        if optimizer.use_ema:
            optimizer.ema_momentum = self.averaging_momentum

    def optimizer(self, model, **kwargs):
        """A new optimizer for a model's trainable variables.

        Args:
            model: whose variables it will train.
            **kwargs: replace arguments of the optimizer, e.g. `global_clipnorm`.
        """
        ema = {}
        if self.recipe.ema:
            ema = {"use_ema": True, "ema_momentum": self.averaging_momentum}
        if self.recipe.sgd:
            options = {"momentum": 0.9, "l2": 1e-4, **ema, **kwargs}
            return SGDWithL2(self.schedule(), **options)
        options = {"weight_decay": 0.05, "global_clipnorm": 10.0, **ema, **kwargs}
        optimizer = keras.optimizers.AdamW(self.schedule(), **options)
        # Scales, offsets and biases do not decay.
        optimizer.exclude_from_weight_decay(
            var_list=[v for v in model.trainable_variables if len(v.shape) <= 1]
        )
        return optimizer

    def __str__(self):
        decays = self.decay_epochs
        fall = f"to a tenth after epochs {decays}" if decays else "constant after that"
        fall = fall if self.recipe.decays else "then a cosine"
        return (
            f"recipe {self.recipe.name}: {self.epochs} epochs of {self.steps_per_epoch} steps of "
            f"{self.batch_size} images, learning rate {self.learning_rate:.3g} after "
            f"{self.schedule().warmup_steps} steps, {fall}"
        )


_PAPER = {"sgd": True, "learning_rate": 0.01, "warmup_steps": 500}
_ADAMW = {"sgd": False, "warmup_steps": 100}
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("1x", "the paper's, Tables 1-6", epochs=12, decays=(8 / 12, 11 / 12), **_PAPER),
        Recipe(
            "2x",
            "the paper's, Table 7: twice as long, with images of many sizes",
            epochs=24,
            decays=(16 / 24, 22 / 24),
            short_sides=(0.6, 1.2),
            **_PAPER,
        ),
        Recipe(
            "finetune",
            "for small data and a pretrained detector: AdamW, cosine, averaged weights",
            epochs=36,
            learning_rate=1e-3,
            ema=0.998,
            **_ADAMW,
        ),
        Recipe(
            "scratch",
            "for training from nothing: AdamW at a higher rate, cosine",
            epochs=40,
            learning_rate=2e-3,
            **_ADAMW,
        ),
    )
}


@dataclasses.dataclass
class WholeTraining:
    """The training of which several calls of `fit` are parts, as those of one that is resumed.

    Attributes:
        steps_per_epoch: those of a whole epoch, however few a part has; None if unknown.
        first_step: `optimizer.iterations` where the training began.
        plan: the `Plan` that its first part made.
    """

    steps_per_epoch: int | None
    first_step: int
    plan: Plan | None = None


@contextlib.contextmanager
def parts_of(model, training):
    """Within it each `fit` of a model is a part of one `WholeTraining` and follows its plan."""
    model.whole_training = training
    try:
        yield
    finally:
        model.whole_training = None


def first_step(iterations, initial_epoch, steps_per_epoch):
    """`optimizer.iterations` where the training began that `fit` begins or goes on with.

    With an `initial_epoch` it goes on: its steps are those of the epochs before, and the steps of
    an epoch that was interrupted, which is done again. What is beyond was another training, as is
    all that was done before a `fit` from epoch 0.
    """
    before = iterations - initial_epoch * steps_per_epoch
    return before if initial_epoch == 0 or before >= steps_per_epoch else 0


def get(recipe):
    """A `Recipe` from its name, or itself.

    Raises:
        ValueError: there is none of this name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"`recipe` must be one of {list(RECIPES)}, got {recipe!r}.")
    return RECIPES[recipe]


def paper_1x(num_images, batch_size, devices=1, **kwargs):
    """The paper's 1x schedule as a `Plan`; arguments as in `Recipe.plan`."""
    return RECIPES["1x"].plan(num_images, batch_size, devices, **kwargs)


def paper_2x(num_images, batch_size, devices=1, **kwargs):
    """The paper's 2x schedule as a `Plan`; arguments as in `Recipe.plan`."""
    return RECIPES["2x"].plan(num_images, batch_size, devices, **kwargs)


def finetune(num_images, batch_size, devices=1, **kwargs):
    """For small data and a pretrained detector, as a `Plan`; arguments as in `Recipe.plan`."""
    return RECIPES["finetune"].plan(num_images, batch_size, devices, **kwargs)
