"""A recipe for one dataset: steps, learning rate, average, optimizer."""

import dataclasses

import keras

from keras_gflv2.optimizers import inner_optimizer
from keras_gflv2.recipes.sgd_with_l2 import SGDWithL2
from keras_gflv2.recipes.warm_up_cosine import WarmUpCosine
from keras_gflv2.recipes.warm_up_step_decay import WarmUpStepDecay


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

    recipe: object  # a `Recipe`, whose module imports this one
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
