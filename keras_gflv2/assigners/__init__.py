"""Assigners: which location answers for which box."""

from keras_gflv2.assigners.atss import ATSSAssigner

__all__ = ["ATSSAssigner"]
