"""One row of the tables, trained from its start and evaluated."""

import shutil
import time


def train(row, seed, setup, state, *, scope, verbose=0):
    """Trains and evaluates one row.

    Args:
        row: a `Row`.
        seed: of the weights and the order of the images.
        setup: the `Setup` of all rows.
        state: folder of the state of its training, from which an interrupted one goes on; removed
            by `forget`.
        scope: context in which the detector is made, as `cli.devices.use_devices` returns it.
        verbose: of `fit` and the evaluation.

    Returns:
        Dictionary of `results.RESULTS_FIELDS`, without "row" and "seed".
    """
    import keras

    from keras_gflv2 import training
    from keras_gflv2.evaluation import evaluate_coco, quality_correlation

    keras.utils.set_random_seed(seed)
    train_ds, val_ds = setup.datasets(seed)
    with scope:
        model = setup.detector(row, train_ds.class_names)
        plan = setup.plan(train_ds)
        model.compile(plan.optimizer(model, **setup.optimizer))
        # With its variables made now, TensorFlow traces the training step once, not twice.
        model.optimizer.build(model.trainable_variables)
    is_whole = not state.exists() or training.read_position(state) == (0, 0)
    start = time.monotonic()
    training.fit(model, train_ds, state, plan.epochs, seconds=600, verbose=verbose)
    seconds = time.monotonic() - start
    metrics = evaluate_coco(model, val_ds, verbose=verbose)
    correlation = quality_correlation(model, val_ds, verbose=0)
    return {
        **{name: round(metrics[name], 5) for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
        "correlation": round(correlation["score"], 5),
        "correlation_quality": round(correlation["quality"], 5),
        "positives": correlation["num_positives"],
        "seconds": round(seconds, 1) if is_whole else "",
        "steps": plan.steps,
        "parameters": model.count_params(),
        **environment(),
    }


def forget(state):
    """Removes the state of a training whose result is written."""
    shutil.rmtree(state, ignore_errors=True)


def environment():
    """What a line of results was made with."""
    import keras

    from keras_gflv2.benchmarking import machine

    described = machine.describe()
    return {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "version": machine.version("keras-gflv2"),
        **{name: described[name] for name in ("cpu", "threads", "date")},
    }
