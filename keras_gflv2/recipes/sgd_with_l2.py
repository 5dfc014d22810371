"""The paper's optimizer, as PyTorch computes it."""

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
        if keras.backend.backend() == "torch":
            return self._update_in_place(gradient, variable.value, momentum.value, learning_rate)
        gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        velocity = self.momentum * momentum + gradient
        self.assign(momentum, velocity)
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * velocity)

    def _update_in_place(self, gradient, variable, momentum, learning_rate):
        """`update_step` without new tensors, which took a tenth of a step on PyTorch."""
        import torch

        with torch.no_grad():
            momentum.mul_(self.momentum).add_(gradient).add_(variable, alpha=self.l2)
            variable.addcmul_(momentum, ops.cast(learning_rate, momentum.dtype), value=-1)

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "l2": self.l2}
