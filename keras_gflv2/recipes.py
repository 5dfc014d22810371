"""How the paper trains: optimizer and learning-rate schedule."""

import keras
from keras import ops


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
        progress = ops.minimum(step / max(self.warmup_steps, 1), 1.0)
        rate = self.peak * (self.warmup_ratio + (1.0 - self.warmup_ratio) * progress)
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


def paper_optimizer(boundaries=()):
    """The paper's: SGD, 0.01 for 16 images a batch, momentum 0.9, decay 1e-4, 500 warm-up steps.

    Args:
        boundaries: steps at which the rate falls to a tenth; 1x: epochs 8 and 11 of 12.
    """
    return SGDWithL2(WarmUpStepDecay(boundaries=boundaries), momentum=0.9, l2=1e-4)
