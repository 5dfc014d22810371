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
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.01,
        momentum: float = 0.9,
        l2: float = 1e-4,
        name: str = "sgd",
        **kwargs,
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
        gradient = ops.cast(gradient, variable.dtype)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        in_place = {"tensorflow": self._update_tensorflow, "torch": self._update_torch}
        update = in_place.get(keras.backend.backend(), self._update)
        update(gradient, variable, momentum, learning_rate)

    def _update(self, gradient, variable, momentum, learning_rate):
        velocity = self.momentum * momentum + (gradient + self.l2 * variable)
        self.assign(momentum, velocity)
        self.assign_sub(variable, learning_rate * velocity)

    def _update_torch(self, gradient, variable, momentum, learning_rate):
        """The same in place: new tensors of all weights took a tenth of a step."""
        import torch

        weights, velocity = variable.value, momentum.value
        with torch.no_grad():
            velocity.mul_(self.momentum).add_(gradient).add_(weights, alpha=self.l2)
            weights.addcmul_(velocity, learning_rate, value=-1)

    def _update_tensorflow(self, gradient, variable, momentum, learning_rate):
        """The same by an operation of TensorFlow that writes into the variables.

        A graph would compute all products of weights and momentum before the gradients are there,
        and keep them until then: the size of the model twice.
        """
        import tensorflow as tf

        with tf.control_dependencies([gradient]):
            gradient = gradient + self.l2 * variable
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=momentum.value.handle,
            lr=learning_rate,
            grad=gradient,
            momentum=tf.constant(self.momentum, variable.dtype),
        )

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "l2": self.l2}
