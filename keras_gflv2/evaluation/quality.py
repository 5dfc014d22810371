"""How well a detector's scores tell the IoU of its boxes: Pearson correlations (GFLV2, Table 6).

In: a model and a dataset. Out: a dictionary of floats, or lines in the logs of `fit`.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.annotations import Dataset, Detector, DType, Verbose
from keras_gflv2.batches import batches_of, to_xyxy
from keras_gflv2.contract import class_names_of
from keras_gflv2.evaluation.coco import match_detections
from keras_gflv2.evaluation.detections import detect_dataset
from keras_gflv2.losses.matches import Matches
from keras_gflv2.optimizers import averaged_weights
from keras_gflv2.replicas import from_chief, in_this_process, is_chief
from keras_gflv2.targets import Targets

NAMES = ("score", "quality", "detections")


@keras.saving.register_keras_serializable(package="keras_gflv2")
class PearsonCorrelation(keras.metrics.Metric):
    """Pearson's correlation of two quantities over everything that it was given.

    `keras.metrics.PearsonCorrelation` is the mean of the correlations of single rows; this is one
    correlation over all batches. The moments of batches are merged after Chan, Golub and LeVeque
    (1983), which loses no digits in float32. Without any variance the result is NaN.

    >>> metric = PearsonCorrelation()
    >>> metric.update_state([0.2, 0.5, 0.9], [0.1, 0.6, 0.8])
    >>> metric.result()
    """

    def __init__(self, name: str = "pearson_correlation", dtype: DType = "float32", **kwargs):
        super().__init__(name=name, dtype=dtype, **kwargs)
        names = ("count", "mean_true", "mean_pred", "square_true", "square_pred", "product")
        self._moments = [self.add_variable((), "zeros", name=name) for name in names]

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Takes a batch.

        Args:
            y_true, y_pred: of one shape, any.
            sample_weight: of the same shape, or None; what has the weight 0 does not count.
        """
        x, y = (ops.cast(values, self.dtype) for values in (y_true, y_pred))
        w = ops.ones_like(x) if sample_weight is None else ops.cast(sample_weight, self.dtype)
        total = ops.sum(w)
        mean_x, mean_y = (ops.sum(w * v) / ops.maximum(total, 1e-12) for v in (x, y))
        away_x, away_y = x - mean_x, y - mean_y
        products = [(away_x, away_x), (away_y, away_y), (away_x, away_y)]
        batch = [ops.sum(w * a * b) for a, b in products]

        count, old_x, old_y, *sums = self._moments
        merged = ops.maximum(count + total, 1e-12)
        step_x, step_y = mean_x - old_x, mean_y - old_y
        between = count * total / merged
        products = [(step_x, step_x), (step_y, step_y), (step_x, step_y)]
        new = [s + b + between * p * q for s, b, (p, q) in zip(sums, batch, products)]
        means = [old_x + step_x * total / merged, old_y + step_y * total / merged]
        for moment, value in zip(self._moments, [count + total, *means, *new]):
            moment.assign(value)

    def result(self):
        *_, square_x, square_y, product = self._moments
        return product / ops.sqrt(square_x * square_y)


def quality_correlation(
    model: Detector, dataset: Dataset, *, verbose: Verbose = "auto"
) -> dict[str, Any]:
    """Pearson's correlation of what a detector says of its boxes and their IoU with the objects.

    Over the positives of the training's assignment, as in Table 6 of GFLV2 (each location that
    answers for an object, its predicted box, its score for the object's class), and over the
    detections that COCO's rule matches to objects at an IoU of 0.5.

    Args:
        model: a dense detector.
        dataset: as in `evaluate_coco`. Positives are those of its batches as they are padded.
        verbose: as in `evaluate_coco`, for the run over the detections.

    Returns:
        Dictionary of floats: "score", the joint score of the object's class, and "quality", the
        factor of it that is the quality alone (I of GFLV2, the centerness or IoU of a branch; NaN
        where the detector has none), both over "num_positives"; "detections", the confidence, over
        "num_detections". A correlation of less than two, or of equal values, is NaN.

    Raises:
        ValueError: as `evaluate_coco`.

    >>> keras_gflv2.evaluation.quality_correlation(model, val_ds)["score"]
    """
    images = detect_dataset(model, dataset, verbose=verbose)
    matches = match_detections(images, class_names_of(model, dataset))
    overlaps = box_ops.iou(*map(ops.convert_to_tensor, (matches.boxes, matches.true_boxes)))
    joint, alone, num_positives = _over_positives(model, dataset)
    return {
        "score": joint,
        "quality": alone,
        "num_positives": num_positives,
        "detections": pearson(ops.convert_to_numpy(overlaps), matches.scores),
        "num_detections": len(matches.scores),
    }


def pearson(x, y):
    """Pearson's correlation of two arrays; NaN where one does not vary."""
    x, y = (np.asarray(values, "float64").ravel() for values in (x, y))
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _over_positives(model, dataset):
    """Correlations of score and quality with the IoU of the positives, and how many there are."""
    # Keras compiles it once, as any model; a call of the detector itself would run step by step.
    network = keras.Model(model.input, model.output)
    box_format = getattr(dataset, "bounding_box_format", None) or model.bounding_box_format
    parts = []
    for batch in batches_of(dataset)[0]:
        images = batch["images"]
        height, width = images.shape[1:3]
        batch["boxes"] = to_xyxy(batch["boxes"], box_format, height, width)
        outputs = network.predict_on_batch(images)
        outputs = {name: ops.convert_to_tensor(values) for name, values in outputs.items()}
        values = _positives(model, batch, outputs)
        parts.append([ops.convert_to_numpy(v) for v in values])
    iou, score, quality = (np.concatenate(values) for values in zip(*parts))
    return pearson(iou, score), pearson(iou, quality), len(iou)


def _positives(model, batch, outputs):
    """IoU, score and quality (n,) of the positives of a batch."""
    images = batch["images"]
    at = model.grid(*images.shape[1:3])
    targets = Targets.from_batch(batch, "xyxy", images, model.num_classes)
    matches = Matches(targets, model.assigner(targets, at), outputs, at, model.representation)
    positive = ops.convert_to_numpy(matches.positive)
    score = ops.sum(outputs["scores"] * matches.one_hot, axis=-1)
    quality = model.quality and model.quality.quality_alone(outputs, matches.raw)
    quality = ops.zeros_like(score) if quality is None else quality
    return [ops.convert_to_numpy(v)[positive] for v in (matches.iou, score, quality)]


class QualityCorrelation(keras.callbacks.Callback):
    """Adds `quality_correlation` of a validation dataset to the logs of `fit`.

    After an epoch the logs hold `val_correlation_score`, `val_correlation_quality` and
    `val_correlation_detections`; after epochs without a measurement they are NaN, so that the
    columns of a CSV file exist from the first one. The last epoch is always measured.

    Args:
        dataset: as in `quality_correlation`.
        prefix: put before every name.
        frequency: measure every so many epochs.

    Attributes:
        correlation: the whole dictionary of the last measurement; None before.

    Raises:
        ValueError: `frequency` is not a positive integer.
    """

    def __init__(self, dataset: Dataset, prefix: str = "val_correlation_", frequency: int = 1):
        super().__init__()
        if not isinstance(frequency, int) or frequency < 1:
            raise ValueError(f"`frequency` must be a positive integer. Received: {frequency!r}")
        self.dataset, self.prefix, self.frequency = dataset, prefix, frequency
        self.correlation = None

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        values = [float("nan")] * len(NAMES)
        is_last = epoch + 1 == self.params.get("epochs")
        if is_last or (epoch + 1) % self.frequency == 0:
            with averaged_weights(self.model):
                if is_chief():
                    with in_this_process():
                        self.correlation = quality_correlation(self.model, self.dataset, verbose=0)
                    values = [self.correlation[name] for name in NAMES]
                # Of several processes one measures, and all of them know.
                values = from_chief(self.model, values)
        logs.update({self.prefix + name: float(v) for name, v in zip(NAMES, values, strict=True)})
