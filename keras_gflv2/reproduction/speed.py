"""Time of a step of training and of inference, each row in turn with GFLV2."""

import statistics
import time

from keras_gflv2.reproduction.rows import ROWS

REFERENCE = "gflv2"
TURNS, WARM_UP = 40, 3  # calls of each


def measure(name, setup):
    """Times of one row, in one process and in turn with GFLV2: other work on the machine, or a
    processor that slows down, slows both.

    Inference is `predict_on_batch` of one image: network, decoding and NMS, which has all its
    candidates (weights are new, and the threshold is 0). Training is `train_on_batch`.

    Args:
        name: of the row in `ROWS`.
        setup: the `Setup` of all rows.

    Returns:
        Dictionary of `results.SPEED_FIELDS` without "row"; ratios are times divided by GFLV2's.
    """
    from keras_gflv2.reproduction.train import environment

    batch = next(iter(setup.validation_dataset(batch_size=setup.batch_size)))
    names = [name] if name == REFERENCE else [name, REFERENCE]
    subjects = [_calls(ROWS[row], setup, batch) for row in names]
    seconds = {}
    for part in ("inference", "training"):
        for _ in range(WARM_UP):
            for subject in subjects:
                subject[part]()
        times = [[_seconds(subject[part]) for subject in subjects] for _ in range(TURNS)]
        seconds[part] = [statistics.median(column) for column in zip(*times)]
    inference, training = seconds["inference"], seconds["training"]
    return {
        "images_per_second": round(1 / inference[0], 2),
        "inference_ms": round(1000 * inference[0], 3),
        "inference_ratio": round(inference[0] / inference[-1], 4),
        "training_ms": round(1000 * training[0], 3),
        "training_ratio": round(training[0] / training[-1], 4),
        "turns": TURNS,
        **environment(),
    }


def _calls(row, setup, batch):
    """{"inference", "training"}: functions that run one call of each with a new detector."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    boxes = {key: np.asarray(value) for key, value in batch["bounding_boxes"].items()}
    images = np.asarray(batch["images"], "float32")
    class_names = [str(i) for i in range(max(int(boxes["classes"].max()) + 1, 1))]
    model = setup.detector(row, class_names)
    model.prediction_decoder.score_threshold = 0.0
    steps = 10_000  # of a training whose schedule makes no difference here
    plan = setup.plan(range(steps))
    model.compile(plan.optimizer(model, **setup.optimizer))
    return {
        "inference": lambda: model.predict_on_batch(images[:1]),
        "training": lambda: model.train_on_batch(images, boxes),
    }


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
