"""A training step on PyTorch when several processes train together.

The process group is `torch.distributed`'s, started by the user or by torchrun; Keras's own step
knows nothing of it.
"""

import keras
import torch
import torch.distributed

from keras_gflv2.replicas import loss_in_logs


class DataParallelStep:
    """One training step whose gradients are those of the whole batch of all processes.

    Args:
        model: a compiled dense detector. Its weights become those of the first process.
    """

    def __init__(self, model):
        self._model = model
        self._forward = torch.nn.parallel.DistributedDataParallel(_Forward(model))

    def __call__(self, images, targets):
        """Updates the weights; returns the logs, which are those of the whole batch."""
        model, world = self._model, torch.distributed.get_world_size()
        predictions = self._forward(keras.ops.convert_to_tensor(images))
        model.zero_grad()
        # Each process computes its part of a sum: the normalizers are of the whole batch.
        part = model._compute_loss(x=images, y=targets, y_pred=predictions, training=True)
        model._loss_tracker.update_state(loss_in_logs(part), sample_weight=len(images))
        # DistributedDataParallel takes means of gradients.
        (model.optimizer.scale_loss(part) * world).backward()
        variables = model.trainable_weights[:]
        with torch.no_grad():
            model.optimizer.apply([v.value.grad for v in variables], variables)
        return model.get_metrics_result()


class _Forward(torch.nn.Module):
    """The model as it is called in training."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images, training=True)
