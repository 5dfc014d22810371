"""How a detector tells the quality of its boxes: what all forms of it share."""

import dataclasses

import keras
from keras import ops

from keras_gflv2.computed_once import computed_once
from keras_gflv2.parts import Part


@dataclasses.dataclass
class LevelFeatures:
    """What is known of one level of the pyramid when the quality of its boxes is told.

    Attributes:
        classification: (B, H, W, C) map of the classification tower.
        box: (B, H, W, C) map of the box tower.
        raw: (B, A_l, *shape) float32 numbers of the boxes, as the representation has them.
        representation: the `BoxRepresentation`.
        grid: the `AnchorGrid`.
        index: of the level, 0 is the finest.
    """

    classification: object
    box: object
    raw: object
    representation: object
    grid: object
    index: int

    @computed_once
    def at(self):
        """`Locations` of the level."""
        return self.grid.level(self.index, *ops.shape(self.box)[1:3])

    @computed_once
    def boxes(self):
        """(B, A_l, 4) xyxy in cells of the map: the center of cell (row i, column j) is (j, i)."""
        boxes = self.representation.decode(self.raw, self.at)
        return boxes / self.at.strides - self.grid.offset


class Quality:
    """Where class and quality meet: gives the scores, and what the criterion needs beside them.

    The head calls `extend` and `read` for each level, while it has the maps of the level, and
    `combine` once for all.

    Attributes:
        output_names: keys of the outputs, beside the raw numbers of the boxes.
    """

    output_names: tuple[str, ...] = ("scores", "class_logits")

    def build_from(self, channels, shape, anchors_per_cell):
        """Makes the weights.

        Args:
            channels: of the maps of the towers.
            shape: of the raw numbers of one location.
            anchors_per_cell: locations per cell.
        """

    def extend(self, level):
        """The map (B, H, W, C') that the classification convolution sees."""
        return level.classification

    def extra_channels(self, anchors_per_cell):
        """How many channels `extend` adds, for so many locations per cell."""
        return 0

    def read(self, level):
        """The quality (B, A_l, ...) of the boxes of one level, or None if it is not read there."""
        return None

    def combine(self, class_logits, raw, readings):
        """Outputs by their names.

        Args:
            class_logits: (B, A, C) float32.
            raw: (B, A, *shape) float32.
            readings: (B, A, ...) what `read` returned for all levels, or None.
        """
        # The loss of a score near 1 has no digits left in float32: the loss sees the logits.
        return {"scores": ops.sigmoid(class_logits), "class_logits": class_logits}

    def candidate_scores(self, outputs):
        """Scores (B, A, C) that choose the candidates of NMS, or None: the scores themselves."""
        return None

    def quality_alone(self, outputs, raw):
        """The quality (B, A) in 0..1 without the class, or None where it cannot be told apart.

        Args:
            outputs: what `combine` returned.
            raw: (B, A, *shape), as of `combine`.
        """
        return None

    def output_shapes(self, scores_shape):
        """{name: shape} of what `combine` returns."""
        return dict.fromkeys(self.output_names, scores_shape)


@keras.saving.register_keras_serializable(package="keras_gflv2")
class NoQuality(Quality, Part):
    """The score is the class probability alone: RetinaNet, FoveaBox, and GFLV1, whose class branch
    learns the quality itself (Generalized Focal Loss, Figure 2)."""
