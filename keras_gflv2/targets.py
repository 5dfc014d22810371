"""What a training step is told, and what assigners make of it."""

import dataclasses

from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.contract import at_least_one_box, usable


@dataclasses.dataclass
class Targets:
    """The objects of a batch, in the form that assigners and the criterion want.

    Attributes:
        boxes: (B, N, 4) float32, xyxy in pixels of the network's input; N is at least 1.
        classes: (B, N), -1 marks padding.
        image_sizes: (B, 2) height and width of every image inside the batch, or None where each
            fills it.
        ignored: (B, N), non-zero for boxes to leave out (crowds, difficult objects), or None.
        num_faulty: scalar: how many boxes had no meaning and became padding.
    """

    boxes: object
    classes: object
    image_sizes: object = None
    ignored: object = None
    num_faulty: object = 0.0

    @classmethod
    def from_batch(cls, y, bounding_box_format, images, num_classes=None):
        """The targets of what a user hands to `fit`.

        Args:
            y: {"boxes": (B, N, 4) in `bounding_box_format`, "classes": (B, N)}; optional "ignored"
                (B, N) and "image_sizes" (B, 2).
            bounding_box_format: KerasCV's name of the format of the boxes.
            images: (B, H, W, 3), whose height and width relative boxes refer to.
            num_classes: boxes of other classes than 0..num_classes - 1 become padding. None takes
                them as they are.
        """
        height, width = ops.shape(images)[1:3]
        y, num_faulty = usable(at_least_one_box(y), num_classes or float("inf"))
        boxes = box_ops.convert(y["boxes"], bounding_box_format, "xyxy", height, width)
        return cls(boxes, y["classes"], y.get("image_sizes"), y.get("ignored"), num_faulty)

    @property
    def is_object(self):
        """(B, N) bool: boxes that locations can answer for, neither padding nor ignored."""
        return self.is_present & ~self.is_ignored if self.ignored is not None else self.is_present

    @property
    def is_ignored(self):
        """(B, N) bool: boxes to leave out; only where `ignored` is given."""
        return self.is_present & (ops.cast(self.ignored, "float32") > 0)

    @property
    def is_present(self):
        """(B, N) bool: boxes that are no padding."""
        return ops.cast(self.classes, "float32") >= 0


@dataclasses.dataclass
class Assignment:
    """Which location answers for which box.

    Attributes:
        box_index: (B, A) int32, the box that a location answers for, or -1 for background.
        valid: (B, A) bool, whether a location takes part in the classification loss.
    """

    box_index: object
    valid: object

    @property
    def positive(self):
        """(B, A) bool: locations that answer for a box."""
        return self.box_index >= 0
