"""Quality from a convolution of its own."""

import keras
from keras import ops

from keras_gflv2.layer_settings import CompositeLayer
from keras_gflv2.layers.conv2d import Conv2D
from keras_gflv2.layers.quality.quality import Quality

KINDS = ("centerness", "iou")
TOWERS = ("box", "classification")


@keras.saving.register_keras_serializable(package="keras_gflv2")
class BranchQuality(Quality, CompositeLayer):
    """A convolution with one channel predicts the quality (FCOS, section 3.2; IoU-Net).

    The score is the product of class probability and quality, for ranking and NMS; candidates of
    NMS are chosen by the class probability alone, as in the official code.

    Args:
        kind: what it learns and the name of its output: "centerness" or "iou".
        tower: whose map it reads: "box" or "classification".
        anchors_per_cell: as the detector's `AnchorGrid` has them.

    Outputs: "scores" (B, A, C), "class_logits" (B, A, C) and "centerness" or "iou" (B, A) logits.
    """

    def __init__(
        self,
        kind: str = "centerness",
        tower: str = "box",
        anchors_per_cell: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if kind not in KINDS or tower not in TOWERS:
            raise ValueError(
                f"`kind` must be one of {KINDS} and `tower` one of {TOWERS}; got {kind!r} and "
                f"{tower!r}."
            )
        self.kind = kind
        self.tower = tower
        self.anchors_per_cell = anchors_per_cell
        self.output_names = ("scores", "class_logits", kind)
        self.conv = Conv2D(
            anchors_per_cell,
            3,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=self.dtype_policy,
            name=kind,
        )
        self.remember_layers()

    def build_from(self, channels, shape, anchors_per_cell):
        if anchors_per_cell != self.anchors_per_cell:
            raise ValueError(
                f"`anchors_per_cell` is {self.anchors_per_cell}, but the grid has "
                f"{anchors_per_cell}."
            )
        self.conv.build((None, None, None, channels))
        self.built = True

    def read(self, level):
        logits = self.conv(getattr(level, self.tower))
        return ops.cast(ops.reshape(logits, (ops.shape(logits)[0], -1)), "float32")

    def combine(self, class_logits, raw, readings):
        scores = ops.sigmoid(class_logits) * ops.sigmoid(readings)[..., None]
        return {"scores": scores, "class_logits": class_logits, self.kind: readings}

    def candidate_scores(self, outputs):
        return ops.sigmoid(outputs["class_logits"])

    def quality_alone(self, outputs, raw):
        return ops.sigmoid(outputs[self.kind])

    def output_shapes(self, scores_shape):
        return {**super().output_shapes(scores_shape), self.kind: scores_shape[:2]}

    def get_config(self):
        return {
            **super().get_config(),
            "kind": self.kind,
            "tower": self.tower,
            "anchors_per_cell": self.anchors_per_cell,
        }
