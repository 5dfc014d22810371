"""Datasets: COCO, Pascal VOC, YOLO, CSV, TFDS and synthetic shapes as batches of dense arrays."""

from keras_gflv2.data.augmentation import Augmentation
from keras_gflv2.data.checks import check
from keras_gflv2.data.coco import load_coco
from keras_gflv2.data.csv_files import load_csv
from keras_gflv2.data.loader_options import LoaderOptions
from keras_gflv2.data.pipeline import build_dataset
from keras_gflv2.data.recognize import recognize
from keras_gflv2.data.records import Annotations, Record, Report
from keras_gflv2.data.shapes import load_shapes
from keras_gflv2.data.tfds import load_tfds
from keras_gflv2.data.voc import load_voc
from keras_gflv2.data.yolo import load_yolo

__all__ = [
    "Annotations",
    "Augmentation",
    "LoaderOptions",
    "Record",
    "Report",
    "build_dataset",
    "check",
    "load_coco",
    "load_csv",
    "load_shapes",
    "load_tfds",
    "load_voc",
    "load_yolo",
    "recognize",
]
