"""What `train` does beside training: logs, curves, scores and the best model."""


def train_callbacks(folder, val_ds, first_epoch, arguments, chief=True):
    """The callbacks of a run.

    Args:
        folder: the `RunFolder`.
        val_ds: validation data, or None.
        first_epoch: where the training begins or goes on.
        arguments: of the command line.
        chief: whether this process writes; others only compute what all must.
    """
    import keras

    from keras_gflv2.evaluation import COCOMetrics
    from keras_gflv2.training import Curves, EpochLog, Progress
    from keras_gflv2.visualization import DetectionImages

    callbacks = [Progress(arguments.batch_size, verbose=arguments.verbose)]
    if val_ds is not None:
        best_ap = folder.best_ap(first_epoch) if chief else None
        callbacks.append(COCOMetrics(val_ds, best_model=folder.best, best_so_far=best_ap))
    if not chief:
        return callbacks
    callbacks += [EpochLog(folder.log), Curves(folder.log, folder.curves)]
    if arguments.tensorboard:
        logs = folder.path / "tensorboard"
        callbacks.append(keras.callbacks.TensorBoard(logs))
        if val_ds is not None:
            callbacks.append(DetectionImages(val_ds, logs))
    return callbacks
