"""How well the predicted quality of boxes goes with the real one (Table 6)."""

import numpy as np


def correlation_over_positives(model, dataset):
    """Pearson correlation of predicted and real quality over the positives of a dataset.

    The positives are the locations that the detector's own assigner gives an object. Predicted is
    the score of the object's class, as NMS ranks it; real is the IoU of the location's box.

    Args:
        model: a dense detector.
        dataset: batches as for `evaluate_coco`.

    Returns:
        Tuple of the coefficient (NaN without positives) and the number of positives.
    """
    from keras import ops

    from keras_gflv2.losses.matches import Matches
    from keras_gflv2.targets import Targets

    predicted, real = [], []
    for batch in dataset:
        images = ops.convert_to_tensor(batch["images"])
        y = {**batch["bounding_boxes"], "image_sizes": batch["image_sizes"]}
        outputs = model(ops.cast(images, "float32"), training=False)
        targets = Targets.from_batch(y, model.bounding_box_format, images, model.num_classes)
        at = model.grid(*ops.shape(images)[1:3])
        assignment = model.assigner(targets, at)
        matches = Matches(targets, assignment, outputs, at, model.representation)
        positive = np.asarray(ops.convert_to_numpy(matches.positive))
        score = ops.sum(outputs["scores"] * matches.one_hot, axis=-1)
        predicted.append(ops.convert_to_numpy(score)[positive])
        real.append(ops.convert_to_numpy(matches.iou)[positive])
    predicted, real = np.concatenate(predicted), np.concatenate(real)
    return float(np.corrcoef(predicted, real)[0, 1]), len(real)
