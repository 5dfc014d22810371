"""How a detector tells the quality of its boxes."""

from keras_gflv2.layers.quality.branch import BranchQuality
from keras_gflv2.layers.quality.distribution_guided import DistributionGuidedQualityPredictor
from keras_gflv2.layers.quality.quality import NoQuality, Quality

__all__ = ["BranchQuality", "DistributionGuidedQualityPredictor", "NoQuality", "Quality"]
