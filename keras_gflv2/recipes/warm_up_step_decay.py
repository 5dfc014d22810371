"""The paper's learning rate."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_gflv2.recipes.warm_up import warm_up


@keras.saving.register_keras_serializable(package="keras_gflv2")
class WarmUpStepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a tenth at each boundary (GFLV2, section 4).

    Args:
        peak: learning rate after the warm-up; the paper's 0.01 is for 16 images a batch.
        boundaries: steps at which it is multiplied by `factor`.
        warmup_steps: length of the warm-up, which starts at `warmup_ratio` of the peak.
    """

    def __init__(
        self,
        peak: float = 0.01,
        boundaries: Sequence[int] = (),
        warmup_steps: int = 500,
        warmup_ratio: float = 0.001,
        factor: float = 0.1,
    ):
        self.peak = peak
        self.boundaries = tuple(int(b) for b in boundaries)
        self.warmup_steps = warmup_steps
        self.warmup_ratio = warmup_ratio
        self.factor = factor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rate = self.peak * warm_up(step, self.warmup_steps, self.warmup_ratio)
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
