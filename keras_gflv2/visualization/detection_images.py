"""A training's detections in TensorBoard."""

from pathlib import Path

import keras
import numpy as np

from keras_gflv2.annotations import Dataset, PathLike
from keras_gflv2.optimizers import averaged_weights
from keras_gflv2.visualization.validation import draw_validation


class DetectionImages(keras.callbacks.Callback):
    """Shows TensorBoard what the detector finds in some images, next to the ground truth.

    Needs the package tensorboard.

    Args:
        dataset: as the loaders of `keras_gflv2.data` make; images of its first batch are drawn.
        log_dir: folder of `keras.callbacks.TensorBoard`'s logs.
        frequency: draw after every so many epochs.
        count: at most so many images.
    """

    def __init__(self, dataset: Dataset, log_dir: PathLike, frequency: int = 1, count: int = 8):
        super().__init__()
        self.dataset, self.log_dir = dataset, Path(log_dir)
        self.frequency, self.count = frequency, count

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.frequency:
            return
        import tensorflow as tf

        with averaged_weights(self.model):
            picture = draw_validation(self.model, self.dataset, self.count)
        with tf.summary.create_file_writer(str(self.log_dir / "detections")).as_default():
            tf.summary.image("detections", np.asarray(picture)[None], step=epoch)
