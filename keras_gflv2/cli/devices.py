"""The devices that `train` uses: several of this machine, or of several machines.

Of several machines each runs the same command; which of them it is, says the environment as the
backend wants it: TF_CONFIG, KERAS_DISTRIBUTION_*, or torchrun's variables.
"""

import contextlib
import datetime
import os
import signal
import subprocess
import sys

TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def use_devices(devices=None):
    """Joins the other processes, if there are any, and takes devices of this machine.

    Must come before anything is computed.

    Args:
        devices: how many of this machine's GPUs (or TPU cores); None for one. Where there are
            none, the CPU is divided into as many, which is good for trying things only. Processes
            that torchrun or TF_CONFIG started take all that they see.

    Returns:
        Tuple of: the context in which the model has to be made and compiled; how many devices
        train together.

    Raises:
        ValueError: there are not so many devices.
    """
    import keras

    backends = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    return backends[keras.backend.backend()](devices)


def launches_processes(devices):
    """Whether `devices` means processes of PyTorch that have not been started yet."""
    import keras

    is_torch = keras.backend.backend() == "torch"
    return is_torch and (devices or 1) > 1 and not _from_torchrun()


def launch_processes(devices, argv):
    """Runs the command line `argv` in a PyTorch process for each device, and ends as they do.

    SIGINT and SIGTERM are handed on, for them to save and end.
    """
    from keras_gflv2.signals import SIGNALS, stopped_by

    # Each would otherwise use all cores.
    threads = str(max((os.cpu_count() or 1) // devices, 1))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, f"--nproc-per-node={devices}", "-m", "keras_gflv2.cli", *argv]
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    # In a session of its own: a terminal's Ctrl-C reaches it once, from here.
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    came = []

    def hand_on(number, frame):
        came.append(number)
        process.send_signal(number)

    handlers = {number: signal.signal(number, hand_on) for number in SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if came and code:
        raise stopped_by(came[0])
    if code:
        raise SystemExit(code)


def _tensorflow(devices):
    import tensorflow as tf

    from keras_gflv2.replicas import process_position

    if process_position()[1] > 1:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        return strategy.scope(), strategy.num_replicas_in_sync
    if (devices or 1) == 1:
        return contextlib.nullcontext(), 1
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    if kind == "CPU":
        (cpu,) = tf.config.list_physical_devices("CPU")
        parts = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, parts)
    _check(devices, len(tf.config.list_logical_devices(kind)))
    strategy = tf.distribute.MirroredStrategy([f"{kind}:{i}" for i in range(devices)])
    return strategy.scope(), devices


def _jax(devices):
    import jax
    import keras

    if "KERAS_DISTRIBUTION_JOB_ADDRESSES" in os.environ:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        keras.distribution.initialize()
        parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
        keras.distribution.set_distribution(parallel)
        return contextlib.nullcontext(), jax.device_count()
    if (devices or 1) == 1:
        return contextlib.nullcontext(), 1
    # Without effect where there are others.
    jax.config.update("jax_num_cpu_devices", devices)
    available = keras.distribution.list_devices()
    _check(devices, len(available))
    parallel = keras.distribution.DataParallel(devices=available[:devices])
    keras.distribution.set_distribution(parallel)
    return contextlib.nullcontext(), devices


def _torch(devices):
    if not _from_torchrun():
        return contextlib.nullcontext(), 1
    import torch.distributed

    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    # The others wait while the first process measures.
    patience = datetime.timedelta(hours=3)
    torch.distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=patience)
    return contextlib.nullcontext(), torch.distributed.get_world_size()


def _from_torchrun():
    return all(name in os.environ for name in TORCHRUN)


def _check(devices, available):
    if devices > available:
        raise ValueError(f"--devices {devices}: this machine has {available}.")
