"""Every detector that the paper's tables compare, as data: a name, a class and its arguments.

Sizes, data and schedule are the same for all rows: see `setups.py`.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One detector of the paper's tables.

    Attributes:
        detector: name of its class in `keras_gflv2`.
        arguments: of the constructor, beside those that all rows share. A function is called for
            each new detector: a layer belongs to one.
    """

    detector: str
    arguments: dict = dataclasses.field(default_factory=dict)

    def build(self, backbone, **shared):
        """A new detector.

        Args:
            backbone: a Keras model with pyramid outputs.
            **shared: constructor arguments that all rows have.
        """
        import keras_gflv2

        own = {name: v() if callable(v) else v for name, v in self.arguments.items()}
        return getattr(keras_gflv2, self.detector)(backbone, **shared, **own)


def _layer(name, **arguments):
    """Function that makes a layer of `keras_gflv2.layers`; so are arguments that are functions."""

    def make():
        from keras_gflv2 import layers

        own = {key: v() if callable(v) else v for key, v in arguments.items()}
        return getattr(layers, name)(**own)

    return make


def _joint_criterion(from_logits):
    """Function that makes the criterion of Generalized Focal Loss without distributions.

    The class score is trained towards the IoU of its box (quality focal loss), and boxes are
    weighted by it.
    """

    def make():
        from keras_gflv2 import losses

        quality_focal = losses.QualityFocalLoss(from_logits=from_logits)
        return losses.Criterion([losses.ClassTerm(quality_focal), losses.BoxTerm()])

    return make


# "ATSS w/ QFL" of Table 3 and the rows with a star in Table 6: the joint representation of class
# and IoU takes the place of the centerness branch; boxes stay the detector's own.
JOINT = {"quality": _layer("NoQuality"), "criterion": _joint_criterion(from_logits=True)}


def _sampled(sampler):
    """ATSS with QFL whose quality is read off convolutional features (Table 3, (a) to (g))."""
    quality = _layer("SampledQuality", sampler=_layer(sampler))
    return Row("ATSS", {"quality": quality, "criterion": _joint_criterion(from_logits=False)})


def _guided(detector):
    return Row(detector, {"distribution_guided": True})


def _statistics(*names):
    return Row("GFLV2", {"quality_statistics": names})


def _composed(channels):
    return Row("DenseDetector", {"quality": _layer("ComposedQuality", channels=channels)})


ROWS = {
    "gflv2": Row("GFLV2"),  # k = 4, p = 64, top-k and mean, decomposed; ATSS of Table 5 with it
    "gflv1": Row("GFLV1"),  # k = 0
    "atss": Row("ATSS"),
    "atss+joint": Row("ATSS", JOINT),
    "fcos": Row("FCOS"),
    "fcos+joint": Row("FCOS", JOINT),
    "fcos+dgqp": _guided("FCOS"),
    "foveabox": Row("FoveaBox"),
    "foveabox+dgqp": _guided("FoveaBox"),
    "retinanet": Row("RetinaNet"),
    "retinanet+dgqp": _guided("RetinaNet"),
    "topk": _statistics("topk"),
    "mean": _statistics("mean"),
    "var": _statistics("var"),
    "topk+var": _statistics("topk", "var"),
    "topk+mean+var": _statistics("topk", "mean", "var"),
    **{f"k{k}": Row("GFLV2", {"quality_topk": k}) for k in (1, 2, 3, 8, 16)},
    **{f"p{p}": Row("GFLV2", {"quality_channels": p}) for p in (8, 16, 32, 128, 256)},
    "point": _sampled("PointSampler"),
    "region": _sampled("RegionSampler"),
    "border": _sampled("BorderSampler"),
    "border-middle": _sampled("BorderMiddleSampler"),
    "border-extreme": _sampled("BorderExtremeSampler"),
    "star": _sampled("StarSampler"),
    "deformable": _sampled("DeformableSampler"),
    **{f"composed-{d}": _composed(d) for d in (16, 32, 64, 128, 256)},
}
