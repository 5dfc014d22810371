"""What all forms of predicting a box share."""

import math

from keras import ops

from keras_gflv2 import boxes as box_ops
from keras_gflv2.parts import Part


class BoxRepresentation(Part):
    """How the numbers of a location mean a box. It has no weights.

    Subclasses say how many numbers there are, and turn them into boxes and boxes into targets. The
    constructor arguments are attributes, and so the configuration.

    Attributes:
        output_name: key of the raw numbers among the outputs of the model.
        shape: of the raw numbers of one location, e.g. (4,).
        has_spread: whether `spread` knows how sure a side is.
        edge: how many pixels before the right and bottom edge of an image its boxes end.
    """

    output_name = "boxes"
    shape = (4,)
    has_spread = False
    edge = 0.0

    @property
    def channels(self):
        """How many numbers a location has."""
        return math.prod(self.shape)

    def activate(self, raw):
        """What the head's numbers (B, A, *shape), after the scale of the level, go through."""
        return raw

    def decode(self, raw, at):
        """Boxes (B, A, 4), xyxy in pixels, of the raw numbers at `Locations`.

        These are all of a batch, with points (A, 2), or chosen ones, `Locations.take`: (B, A, 2).
        """
        raise NotImplementedError

    def encode(self, boxes, at):
        """Targets (B, A, 4) of boxes (B, A, 4), xyxy in pixels, one per location."""
        raise NotImplementedError

    def spread(self, raw, at):
        """Standard deviations (B, A, 4) in pixels of the sides, where `has_spread`."""
        raise NotImplementedError

    def clip(self, boxes, image_sizes):
        """Boxes (B, A, 4) cut at the edges of each image: `image_sizes` (B, 2) in pixels."""
        sizes = ops.cast(image_sizes, "float32")[:, None]  # (B, 1, 2)
        if self.edge:
            sizes = sizes - self.edge
        return box_ops.clip(boxes, sizes[..., :1], sizes[..., 1:])
