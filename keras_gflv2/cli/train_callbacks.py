"""What `train` does beside training: logs, curves, scores and the best model."""

import importlib.util

from keras_gflv2.cli.sources import validation_spec


def logs_of(arguments):
    """Names of the services that the command line logs to."""
    names = list(dict.fromkeys(arguments.log or ()))
    return names if "tensorboard" in names or not arguments.tensorboard else [*names, "tensorboard"]


def check_arguments(arguments):
    """Raises for what would be missed after hours, before any data is read."""
    if arguments.patience and not validation_spec(arguments):
        raise ValueError(
            "--patience goes by the AP of images to validate on: name --validation-data, or a "
            "--validation-fraction of --data."
        )
    for name in logs_of(arguments):
        found = importlib.util.find_spec(name)
        # Without an origin it is a folder of this name: each service writes one where it runs.
        if found is None or found.origin is None:
            raise ImportError(f"--log {name} needs {name}: pip install 'keras-gflv2[{name}]'.")


def experiment_logs(folder, arguments):
    """Callbacks of Weights & Biases and MLflow, where they are asked for."""
    from keras_gflv2.training import MLflowLog, WandbLog

    classes = {"wandb": WandbLog, "mlflow": MLflowLog}
    config = folder.arguments_of(arguments)
    names = [name for name in logs_of(arguments) if name in classes]
    return [classes[name](folder.path, config) for name in names]


def train_callbacks(folder, val_ds, first_epoch, arguments, chief=True, experiments=()):
    """The callbacks of a run.

    Args:
        folder: the `RunFolder`.
        val_ds: validation data, or None.
        first_epoch: where the training begins or goes on.
        arguments: of the command line.
        chief: whether this process writes; others only compute what all must.
        experiments: callbacks of `experiment_logs`.
    """
    import keras

    from keras_gflv2.evaluation import COCOMetrics
    from keras_gflv2.training import Curves, EarlyStopping, EpochLog, Progress
    from keras_gflv2.visualization import DetectionImages

    callbacks = [Progress(arguments.batch_size, verbose=arguments.verbose)]
    if val_ds is not None:
        best_ap = folder.best_ap(first_epoch) if chief else None
        callbacks.append(COCOMetrics(val_ds, best_model=folder.best, best_so_far=best_ap))
        if arguments.patience:
            history = folder.ap_history(first_epoch)
            callbacks.append(EarlyStopping(arguments.patience, history))
    if not chief:
        return callbacks
    callbacks += [EpochLog(folder.log), Curves(folder.log, folder.curves), *experiments]
    if "tensorboard" in logs_of(arguments):
        logs = folder.path / "tensorboard"
        callbacks.append(keras.callbacks.TensorBoard(logs))
        if val_ds is not None:
            callbacks.append(DetectionImages(val_ds, logs))
    return callbacks
