"""How the numbers that a location predicts mean a box."""

from keras_gflv2.representations.box_representation import BoxRepresentation

__all__ = ["BoxRepresentation"]
