"""COCOMetrics measures the weights of the moment, and callbacks after it can use its numbers."""

import csv

import keras
import numpy as np
import pytest
from keras import ops

from keras_gflv2.evaluation import COCOMetrics

TRUE_BOX = np.array([0.0, 0.0, 40.0, 40.0], "float32")


@keras.saving.register_keras_serializable("keras_gflv2_tests")
class LearnsOneBox(keras.Model):
    """Its only weights are the box which it finds in every image."""

    num_classes = 1
    bounding_box_format = "xyxy"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.box = self.add_weight(shape=(4,), initializer="zeros", name="box")

    def call(self, inputs):
        zeros = ops.zeros_like(inputs["images"][:, 0, :1, 0])  # (B, 1)
        return {
            "boxes": zeros[..., None] + self.box,  # (B, 1, 4)
            "classes": ops.cast(zeros, "int32"),
            "confidence": zeros + 0.9,
        }

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.sum((y_pred["boxes"] - y) ** 2, axis=-1))


@pytest.fixture
def val_batches():
    truth = {"boxes": TRUE_BOX.reshape(1, 1, 4), "classes": np.zeros((1, 1), "int32")}
    return [{"images": np.zeros((1, 64, 64, 3), "float32"), "bounding_boxes": truth}]


def fit(callbacks, epochs):
    """Each epoch halves the distance to the true box: IoU 0.25, 0.5625, 0.766, 0.879, ..."""
    model = LearnsOneBox()
    model.compile(optimizer=keras.optimizers.SGD(0.25))
    x = {"images": np.zeros((1, 64, 64, 3), "float32")}
    return model, model.fit(
        x, TRUE_BOX.reshape(1, 1, 4), epochs=epochs, callbacks=callbacks, verbose=0
    )


def test_logs_hold_the_AP_of_each_epochs_weights(val_batches):
    callback = COCOMetrics(val_batches)
    model, history = fit([callback], epochs=4)
    # IoU thresholds 0.50, 0.55, ..., 0.95 passed: 0, 2, 6, 8 of ten.
    assert history.history["val_AP"] == pytest.approx([0.0, 0.2, 0.6, 0.8])
    assert history.history["val_AP50"] == pytest.approx([0.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(ops.convert_to_numpy(model.box), TRUE_BOX * 15 / 16, rtol=1e-6)
    assert callback.metrics["per_class"] == {"0": pytest.approx(0.8)}


def test_model_checkpoint_and_csv_logger_see_the_metrics(val_batches, tmp_path):
    callbacks = [
        COCOMetrics(val_batches),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.weights.h5",
            monitor="val_AP",
            mode="max",
            save_best_only=True,
            save_weights_only=True,
        ),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    fit(callbacks, epochs=3)
    model = LearnsOneBox()
    model.compile(optimizer=keras.optimizers.SGD(0.25))
    model({"images": np.zeros((1, 64, 64, 3), "float32")})
    model.load_weights(tmp_path / "best.weights.h5")
    np.testing.assert_allclose(ops.convert_to_numpy(model.box), TRUE_BOX * 7 / 8, rtol=1e-6)
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [float(row["val_AP"]) for row in rows] == pytest.approx([0.0, 0.2, 0.6])


def test_frequency_and_prefix(val_batches):
    callback = COCOMetrics(val_batches, prefix="test_", frequency=2)
    _, history = fit([callback], epochs=3)
    # Not measured, measured, and measured because it is the last one.
    assert history.history["test_AP"] == pytest.approx([-1.0, 0.2, 0.6])


@pytest.mark.parametrize("frequency", [0, -1, 1.5])
def test_bad_frequency_is_an_error(frequency):
    with pytest.raises(ValueError, match="frequency"):
        COCOMetrics([], frequency=frequency)
