"""Run by test_devices.py in a process of its own: `train DEVICES` or `predict FOLDER`."""

import json
import sys

import keras
import numpy as np
from common import random_batch


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
            return losses()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=keras.distribution.list_devices()[:devices])
    )
    return losses()


def losses():
    # Running statistics: live ones are of each replica's own images.
    import keras_gflv2

    keras.utils.set_random_seed(0)
    model = keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(18, base_channels=8),
        3,
        fpn_channels=16,
        head_channels=16,
        head_depth=1,
        head_norm_groups=4,
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    history = {}
    for batch in batches():
        logs = model.fit(batch, batch_size=4, verbose=0, shuffle=False).history
        for name, values in logs.items():
            history.setdefault(name, []).append(float(values[0]))
    return history


def predict(folder):
    model = keras.saving.load_model(f"{folder}/model.keras")
    found = model.predict(random_batch(size=(96, 150))["images"], verbose=0)
    np.savez(f"{folder}/{keras.backend.backend()}.npz", **found)
    return {}


if __name__ == "__main__":
    mode, argument = sys.argv[1:]
    print(json.dumps(train(int(argument)) if mode == "train" else predict(argument)))
