"""How the numbers that a location predicts mean a box."""

from keras_gflv2.representations.anchor_deltas import AnchorDeltas
from keras_gflv2.representations.box_representation import BoxRepresentation
from keras_gflv2.representations.distances import Distances
from keras_gflv2.representations.general_distribution import GeneralDistribution

__all__ = ["AnchorDeltas", "BoxRepresentation", "Distances", "GeneralDistribution"]
