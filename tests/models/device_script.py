"""Run by test_devices.py in processes of its own.

`train DEVICES` in one process, `work RANK PORT PORT` in two that train together, `predict FOLDER`.
"""

import json
import os
import re
import sys
import warnings
from itertools import islice, repeat

import keras
import numpy as np
from common import random_batch, small_detector, small_model

from keras_gflv2.training import distill


def batches():
    for seed in range(5):
        batch = random_batch(seed, batch=4, size=(64, 96))
        if seed == 1:
            batch["bounding_boxes"]["classes"][2:] = -1  # all boxes on the first device
        if seed == 2:
            batch["bounding_boxes"]["classes"][:] = -1
        yield batch


def train(devices):
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        names = [f"CPU:{i}" for i in range(devices)]
        strategy = (
            tf.distribute.MirroredStrategy(names) if devices > 1 else tf.distribute.get_strategy()
        )
        with strategy.scope():
            return losses(odd_batch=devices > 1)
    if devices == 1:
        return losses()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:devices])
    )
    return losses(odd_batch=True)


def work(rank, *ports):
    """One of two processes on this machine that train together."""
    backend, addresses = keras.backend.backend(), [f"localhost:{port}" for port in ports]
    if backend == "tensorflow":
        import tensorflow as tf

        task = {"type": "worker", "index": rank}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
        with tf.distribute.MultiWorkerMirroredStrategy().scope():
            return losses(tensorflow_dataset)
    mine = slice(2 * rank, 2 * rank + 2)
    if backend == "torch":
        import torch.distributed

        address = f"tcp://{addresses[0]}"
        torch.distributed.init_process_group("gloo", address, rank=rank, world_size=2)
    else:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize(",".join(addresses), 2, rank)
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    return losses(lambda batch: keras.tree.map_structure(lambda array: array[mine], batch))


def tensorflow_dataset(batch):
    """The whole batch as a dataset, of which TensorFlow gives each worker its part."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices(batch).batch(4).with_options(options)


def losses(prepare=lambda batch: batch, odd_batch=False):
    """{name of a detector and of a loss: values}, and norms of the weights after training."""
    history = {}
    for name, make, count in (("GFLV2", gflv2, 5), ("FCOS", fcos, 3)):
        keras.utils.set_random_seed(0)
        model = make()
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
        if name == "GFLV2":
            distill(model, small_model(seed=1))
        for batch in islice(batches(), count):
            data = prepare(batch)
            size = len(data["images"]) if isinstance(data, dict) else None
            logs = model.fit(data, batch_size=size, verbose=0, shuffle=False).history
            for key, values in logs.items():
                history.setdefault(f"{name} {key}", []).append(float(values[0]))
        history[f"{name} weights"] = [float(np.linalg.norm(w)) for w in model.get_weights()]
        if odd_batch and name == "GFLV2":
            history["left out"] = list(map(images_left_out, repeat(model), (False, True)))
    return history


def gflv2():
    """With batch statistics of the whole batch."""
    import keras_gflv2

    backbone = keras_gflv2.backbones.ResNet(18, base_channels=8, batch_norm_statistics="batch")
    return small_model(backbone=backbone)


def fcos():
    """Whose three terms have three normalizers."""
    return small_detector("FCOS")


def images_left_out(model, as_dataset):
    """How many of 5 images `fit` says it left out, in batches of 4; losses stay finite."""
    batch = keras.tree.map_structure(lambda array: array[:5], random_batch(0, 5, (64, 96)))
    data, size = batch, 4
    if as_dataset:
        import tensorflow as tf

        data, size = tf.data.Dataset.from_tensor_slices(batch).batch(4), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logs = model.fit(data, batch_size=size, epochs=2, verbose=0).history
    assert len(logs["loss"]) == 2 and np.isfinite(logs["loss"]).all()
    said = [re.match(r"(\d+) images were left out", str(w.message)) for w in caught]
    return [int(match.group(1)) for match in said if match]


def predict(folder):
    model = keras.saving.load_model(f"{folder}/model.keras")
    found = model.predict(np.load(f"{folder}/images.npy"), verbose=0)
    np.savez(f"{folder}/{keras.backend.backend()}.npz", **found)
    return {}


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    if mode == "predict":
        print(json.dumps(predict(*arguments)))
    else:
        print(json.dumps({"train": train, "work": work}[mode](*map(int, arguments))))
