"""The devices and processes that train together: who they are, and sums over them.

A replica is one copy of the model that sees its part of each batch: a device of a TensorFlow
strategy, or a process of PyTorch's process group. On JAX a batch that is sharded over devices, of
however many machines, is one array to the program: there is one replica, whose sums are over all.

- `step`: inside a step, sums over the replicas.
- `processes`: which process this is, and what all of them share.
- `devices`: outside of a step, data and variables on several devices.
- `one_device_prediction`: a batch of any size on one of the devices.
"""

from keras_gflv2.replicas.devices import batch_divisor, is_spread, replica_scope, share_dataset
from keras_gflv2.replicas.one_device_prediction import compiles_each_shape, predict_on_one_device
from keras_gflv2.replicas.processes import (
    from_chief,
    in_this_process,
    is_chief,
    process_position,
    processes_of,
    torch_processes,
    wait_for_all,
)
from keras_gflv2.replicas.step import (
    loss_in_logs,
    mean_over_replicas,
    number_of_replicas,
    replica_logs,
    sum_over_replicas,
)

__all__ = [
    "batch_divisor",
    "compiles_each_shape",
    "from_chief",
    "in_this_process",
    "is_chief",
    "is_spread",
    "loss_in_logs",
    "mean_over_replicas",
    "number_of_replicas",
    "predict_on_one_device",
    "process_position",
    "processes_of",
    "replica_logs",
    "replica_scope",
    "share_dataset",
    "sum_over_replicas",
    "torch_processes",
    "wait_for_all",
]
