"""A training that goes wrong says so and keeps its last good state; any other shows how it goes."""

import collections
import csv
import shutil

import keras
import numpy as np
import pytest
from common import small_model, to_numpy
from PIL import Image

from keras_gflv2 import data, training, visualization
from keras_gflv2.evaluation import COCOMetrics
from keras_gflv2.optimizers import averages

pytestmark = pytest.mark.usefixtures("without_graphs")


@pytest.fixture(scope="module")
def train_ds():
    return data.load_shapes("train", num_images=8, batch_size=2, image_size=(64, 64), train=True)


def compiled(**options):
    model = small_model()
    model.compile(keras.optimizers.Adam(1e-3, **options))
    return model


@keras.saving.register_keras_serializable()
class ExplodesAt(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that at one step makes all weights useless."""

    def __init__(self, step):
        self.step = step

    def __call__(self, step):
        return keras.ops.where(step == self.step, 1e30, 1e-3)

    def get_config(self):
        return {"step": self.step}


def test_nan_stops_and_names_the_images(tmp_path, train_ds):
    model = small_model()
    model.compile(keras.optimizers.Adam(ExplodesAt(5)))  # the second of the four of epoch 2
    with pytest.raises(FloatingPointError, match="after step 3 of epoch 2") as error:
        training.fit(model, train_ds, tmp_path, 3, verbose=0)
    for index in train_ds.images_of(1, 2):
        assert str(train_ds.image_ids[index]) in str(error.value)
    assert "before step 0 of epoch 2" in str(error.value)
    assert training.read_position(tmp_path) == (1, 0)
    model.load_weights(tmp_path / "state.weights.h5")
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_full_disk_is_found_before_the_epoch(tmp_path, train_ds, monkeypatch):
    model = compiled()
    training.fit(model, train_ds, tmp_path, 1, verbose=0)
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1000, 999, 1))
    before = (tmp_path / "state.weights.h5").read_bytes()
    with pytest.raises(OSError, match="next checkpoints need"):
        training.fit(model, train_ds, tmp_path, 2, verbose=0)
    assert (tmp_path / "state.weights.h5").read_bytes() == before


def test_a_disk_that_fills_leaves_the_last_state(tmp_path, train_ds, monkeypatch):
    model = compiled()
    training.fit(model, train_ds, tmp_path, 1, verbose=0)

    def full(path, *args, **kwargs):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save_weights", full)
    with pytest.raises(OSError, match=r"No space left.*before step 0 of epoch 2"):
        training.fit(model, train_ds, tmp_path, 2, verbose=0)
    assert training.read_position(tmp_path) == (1, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["state.weights.h5"]


def test_a_foreign_file_is_no_state(tmp_path):
    (tmp_path / "state.weights.h5").write_bytes(b"not hdf5")
    with pytest.raises(ValueError, match="no state of a training"):
        training.read_position(tmp_path)


def test_a_finished_training_is_not_repeated(tmp_path, train_ds):
    """Also the averages are in its place again: as the undisturbed fit left them."""
    model = compiled(use_ema=True, ema_momentum=0.5)
    training.fit(model, train_ds, tmp_path, 2, verbose=0)
    again = compiled(use_ema=True, ema_momentum=0.5)
    training.fit(again, train_ds, tmp_path, 2, verbose=0)
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)


def test_averages_are_swapped_in_and_out(train_ds):
    model = compiled(use_ema=True, ema_momentum=0.9)
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            before = to_numpy(self.model.trainable_variables[0].value).copy()
            with training.averaged_weights(self.model):
                seen["average"] = to_numpy(self.model.trainable_variables[0].value).copy()
            after = to_numpy(self.model.trainable_variables[0].value)
            np.testing.assert_array_equal(after, before)
            seen["trained"] = before

    model.fit(train_ds, verbose=0, callbacks=[Look()])
    assert np.abs(seen["average"] - seen["trained"]).max() > 0
    # fit itself ends with the averages.
    np.testing.assert_array_equal(to_numpy(model.trainable_variables[0].value), seen["average"])


def test_averages_inside_of_a_loss_scale():
    """mixed_float16 wraps the optimizer. Before a step succeeds, the average is the weights."""
    model = small_model(dtype="mixed_float16")
    model.compile(keras.optimizers.SGD(0.1, use_ema=True))
    model.make_train_function()
    variable, average = averages(model.optimizer)[0]
    before = to_numpy(variable).copy()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    np.testing.assert_array_equal(to_numpy(variable), before)
    average.assign(before + 1)
    with training.averaged_weights(model):
        np.testing.assert_array_equal(to_numpy(variable), before + 1)
    np.testing.assert_array_equal(to_numpy(variable), before)


def test_log_curves_and_best_model(tmp_path, train_ds):
    model = compiled(use_ema=True, ema_momentum=0.5)
    val_ds = data.load_shapes("val", num_images=2, batch_size=2, image_size=(64, 64))
    best, log = tmp_path / "best.keras", tmp_path / "log.csv"
    metrics = COCOMetrics(val_ds, best_model=best)
    callbacks = [
        training.Progress(batch_size=2, verbose=0),
        metrics,
        keras.callbacks.CSVLogger(log),
        training.Curves(log, tmp_path / "curves.png"),
    ]
    model.fit(train_ds, epochs=2, verbose=0, callbacks=callbacks)
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert float(rows[0]["learning_rate"]) == pytest.approx(1e-3)
    assert all(float(row["images_per_second"]) > 0 for row in rows)
    assert max(float(row["val_AP"]) for row in rows) == pytest.approx(metrics.best_so_far)
    loaded = keras.saving.load_model(best)
    assert loaded.num_classes == 3
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1500, 350)
        assert len(picture.convert("RGB").getcolors(10**6)) > 10  # not an empty canvas


def test_detections_are_shown_in_tensorboard(tmp_path, train_ds):
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    model = compiled()
    callbacks = [visualization.DetectionImages(train_ds, tmp_path, frequency=2, count=2)]
    model.fit(train_ds, epochs=3, verbose=0, callbacks=callbacks)
    (file,) = (tmp_path / "detections").iterdir()
    shown = {}
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        event = event_pb2.Event.FromString(record)
        for value in event.summary.value:
            # width, height and the PNG itself
            shown[event.step] = tf.io.decode_png(value.tensor.string_val[2]).numpy()
    assert list(shown) == [1]
    assert len(np.unique(shown[1].reshape(-1, 3), axis=0)) > 10
