"""The report of an evaluation as one HTML file that needs no network."""

from keras_gflv2.reporting.page import check_installed, read_report, write_report
from keras_gflv2.reporting.run import run_of

__all__ = ["check_installed", "read_report", "run_of", "write_report"]
