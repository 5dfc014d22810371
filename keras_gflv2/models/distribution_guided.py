"""What turns any dense detector into its distribution-guided form (GFLV2, Table 5)."""

from keras_gflv2.layers import DistributionGuidedQualityPredictor
from keras_gflv2.representations import GeneralDistribution


def choose_parts(own, given, distribution_guided, reg_max, unit="stride"):
    """The parts that a detector is made of: `representation`, `quality` and `criterion`.

    With `distribution_guided` each side of a box is a general distribution of its distance from the
    location; the quality is read off the distributions; and training is that of GFLV2: quality
    focal loss of the joint score, GIoU and distribution focal loss weighted by it. Locations,
    assignment and towers stay the detector's own.

    Args:
        own: {name: part} of the detector as it was published.
        given: {name: part} that the user passed; None stands for the default.
        distribution_guided, reg_max: see `DenseDetector`'s subclasses.
        unit: of the distances, see `GeneralDistribution`.
    """
    if distribution_guided:
        own = {
            "representation": GeneralDistribution(reg_max, unit=unit),
            "quality": DistributionGuidedQualityPredictor(name="quality_predictor"),
            "criterion": None,  # that of Generalized Focal Loss
        }
    return {name: own[name] if given[name] is None else given[name] for name in own}
