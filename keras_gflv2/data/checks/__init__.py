"""Checks of a dataset before hours are spent on it."""

from keras_gflv2.data.checks.check import check, quick_check
from keras_gflv2.data.checks.report import DataReport, Finding

__all__ = ["DataReport", "Finding", "check", "quick_check"]
