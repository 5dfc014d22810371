"""A learning rate for data of any size."""

import math

import keras
from keras import ops

from keras_gflv2.recipes.warm_up import warm_up


@keras.saving.register_keras_serializable(package="keras_gflv2")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine from the peak down to a part of it.

    Args:
        peak: learning rate after the warm-up.
        start, end: steps between which the cosine falls; it is level before and after.
        warmup_steps: length of the warm-up, which starts at `floor` of the peak.
        floor: part of the peak that is left at `end`.
    """

    def __init__(
        self, peak: float, start: int, end: int, warmup_steps: int = 100, floor: float = 0.01
    ):
        self.peak = peak
        self.start, self.end = int(start), int(end)
        self.warmup_steps = warmup_steps
        self.floor = floor

    def __call__(self, step):
        step = ops.cast(step, "float32")
        progress = (step - self.start) / max(self.end - self.start, 1)
        fall = 0.5 * (1.0 + ops.cos(math.pi * ops.clip(progress, 0.0, 1.0)))
        rate = self.peak * (self.floor + (1.0 - self.floor) * fall)
        return rate * warm_up(step, self.warmup_steps, self.floor)

    def get_config(self):
        return {
            "peak": self.peak,
            "start": self.start,
            "end": self.end,
            "warmup_steps": self.warmup_steps,
            "floor": self.floor,
        }
