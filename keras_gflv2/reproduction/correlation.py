"""How well the predicted quality of boxes goes with the real one (Table 6)."""

import numpy as np


def correlation_over_positives(model, dataset):
    """Pearson correlations of predicted and real quality over the positives of a dataset.

    The positives are the locations that the detector's own assigner gives an object. Real is the
    IoU of the location's box; predicted is the score of the object's class, as NMS ranks it, or
    its factor that is the quality alone.

    Args:
        model: a dense detector.
        dataset: batches as for `evaluate_coco`.

    Returns:
        Dictionary of "score", "quality" (NaN where the detector has none of its own) and
        "num_positives".
    """
    from keras import ops

    from keras_gflv2.losses.matches import Matches
    from keras_gflv2.targets import Targets

    found = []
    for batch in dataset:
        images = ops.convert_to_tensor(batch["images"])
        y = {**batch["bounding_boxes"], "image_sizes": batch["image_sizes"]}
        outputs = model(ops.cast(images, "float32"), training=False)
        targets = Targets.from_batch(y, model.bounding_box_format, images, model.num_classes)
        at = model.grid(*ops.shape(images)[1:3])
        assignment = model.assigner(targets, at)
        matches = Matches(targets, assignment, outputs, at, model.representation)
        score = ops.sum(outputs["scores"] * matches.one_hot, axis=-1)
        values = (matches.iou, score, _quality_alone(model.quality, outputs, matches))
        positive = ops.convert_to_numpy(matches.positive)
        found.append([ops.convert_to_numpy(value)[positive] for value in values])
    real, score, quality = (np.concatenate(values) for values in zip(*found))
    return {
        "score": _pearson(score, real),
        "quality": _pearson(quality, real),
        "num_positives": len(real),
    }


def _quality_alone(quality, outputs, matches):
    """(B, A) the factor of the score that is the quality; zeros where there is none."""
    from keras import ops

    from keras_gflv2 import layers

    if isinstance(quality, layers.DistributionGuidedQualityPredictor):
        return quality(matches.raw)[..., 0]
    if isinstance(quality, layers.BranchQuality):
        return ops.sigmoid(outputs[quality.kind])
    return ops.zeros_like(matches.iou)


def _pearson(x, y):
    """Pearson's correlation; NaN where one does not vary."""
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
