"""Predictions beside the objects that they answer for: what the terms of a criterion look at."""

from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.computed_once import computed_once
from keras_gflv2.replicas import sum_over_replicas

SMALLEST = 1e-9


class Matches:
    """One batch as the criterion sees it; everything is computed at most once.

    Args:
        targets: `Targets` of the batch.
        assignment: the `Assignment` of its locations.
        outputs: what calling the model returns.
        at: `Locations` of the batch.
        representation: the `BoxRepresentation` of the raw numbers.

    Attributes:
        positive: (B, A) bool, locations that answer for an object.
        valid: (B, A) bool, locations that the classification loss is over.
        target_boxes: (B, A, 4) xyxy in pixels; of a location without an object the unit box around
            it, which is finite and has no weight.
    """

    def __init__(self, targets, assignment, outputs, at, representation):
        self.outputs = outputs
        self.at = at
        self.representation = representation
        self.valid = assignment.valid
        self.positive = assignment.positive
        self._box_index = ops.maximum(assignment.box_index, 0)
        self._classes = targets.classes
        boxes = ops.take_along_axis(targets.boxes, self._box_index[..., None], axis=1)
        unit = box_ops.boxes_from_distances(at.points, ops.ones_like(boxes) * at.strides)
        self.target_boxes = ops.where(self.positive[..., None], boxes, unit)

    @property
    def raw(self):
        """(B, A, ...) raw numbers of the boxes."""
        return self.outputs[self.representation.output_name]

    @computed_once
    def boxes(self):
        """Predicted boxes (B, A, 4), xyxy in strides of their level."""
        return self.representation.decode(self.raw, self.at) / self.at.strides

    @computed_once
    def boxes_true(self):
        """`target_boxes` in strides of their level."""
        return self.target_boxes / self.at.strides

    @computed_once
    def encoded(self):
        """`target_boxes` (B, A, 4) in the units of the raw numbers."""
        return self.representation.encode(self.target_boxes, self.at)

    @computed_once
    def iou(self):
        """(B, A) IoU of each positive with its object, 0 elsewhere; without a gradient."""
        iou = box_ops.iou(ops.stop_gradient(self.boxes), self.boxes_true)
        return ops.where(self.positive, iou, 0.0)

    @computed_once
    def centerness(self):
        """(B, A) how central a positive is in its object (FCOS, Eq. 3), 0 elsewhere."""
        distances = box_ops.distances_from_boxes(self.at.points, self.target_boxes)
        ratios = [
            ops.minimum(a, b) / ops.maximum(ops.maximum(a, b), SMALLEST)
            for a, b in ((distances[..., i], distances[..., i + 2]) for i in (0, 1))
        ]
        centerness = ops.sqrt(ops.maximum(ratios[0] * ratios[1], 0.0))
        return ops.where(self.positive, centerness, 0.0)

    @computed_once
    def score(self):
        """(B, A) the best score of each positive, 0 elsewhere; without a gradient."""
        best = ops.stop_gradient(ops.max(self.outputs["scores"], axis=-1))
        return ops.where(self.positive, best, 0.0)

    @computed_once
    def one_hot(self):
        """(B, A, C) 1 at the class of each positive's object; of other locations, of any."""
        classes = ops.take_along_axis(ops.cast(self._classes, "int32"), self._box_index, axis=1)
        return ops.one_hot(classes, self.outputs["scores"].shape[-1], dtype="float32")

    # === Normalizers, over all replicas ===

    @computed_once
    def _positives_per_image(self):
        return ops.sum(ops.cast(self.positive, "float32"), axis=1)

    @computed_once
    def positives(self):
        """Number of positives; an image without one counts as one with one (GFL, ATSS)."""
        return sum_over_replicas(ops.sum(ops.maximum(self._positives_per_image, 1.0)))

    @computed_once
    def positives_and_images(self):
        """Number of positives and of images (FCOS, FoveaBox)."""
        return sum_over_replicas(ops.sum(self._positives_per_image + 1.0))

    @computed_once
    def positives_alone(self):
        """Number of positives, at least 1."""
        return ops.maximum(sum_over_replicas(ops.sum(self._positives_per_image)), 1.0)

    def sum_of(self, weights):
        """The sum of weights (B, A), or 1 where all are 0."""
        total = sum_over_replicas(ops.sum(weights))
        return ops.where(total > 0, total, 1.0)
