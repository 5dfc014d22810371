"""What Keras users set in compile and fit works on a detector, alone and together."""

import keras
import numpy as np
import pytest
from common import random_batch, small_model, to_numpy

from keras_gflv2.backbones import ResNet

BACKEND = keras.backend.backend()


@pytest.fixture(autouse=True)
def _restore_policy():
    yield
    keras.config.set_dtype_policy("float32")


def losses(model, batch, steps, **kwargs):
    return model.fit(batch, batch_size=2, epochs=steps, verbose=0, **kwargs).history["loss"]


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision_trains_without_nan(policy):
    """Keras wraps the optimizer in a LossScaleOptimizer for float16."""
    keras.config.set_dtype_policy(policy)
    model = small_model()
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=10.0))
    history = losses(model, random_batch(size=(64, 64)), 60)
    assert np.isfinite(history).all()
    assert history[-1] < 0.8 * history[0]
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (
        policy == "mixed_float16"
    )
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    found = model.predict(random_batch(size=(64, 64))["images"], verbose=0)
    assert found["boxes"].dtype == found["confidence"].dtype == np.float32


def test_accumulated_gradients_are_one_update():
    """Nothing changes in the first two of three steps; in the third the mean of all three acts."""
    model = small_model()
    model.compile(keras.optimizers.SGD(0.01, gradient_accumulation_steps=3))
    batch, start = random_batch(size=(64, 64)), [w.copy() for w in model.get_weights()]
    losses(model, batch, 2)
    for before, after in zip(start, model.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    losses(model, batch, 1)
    single = small_model()
    single.compile(keras.optimizers.SGD(0.01))
    losses(single, batch, 1)
    for one, other in zip(single.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def plain_losses():
    """Of three epochs of two steps, run as each backend does it by itself."""
    model = small_model()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    return losses(model, random_batch(batch=4, size=(64, 64)), 3, shuffle=False)


@pytest.mark.skipif(
    BACKEND == "torch",
    reason="torch.compile takes minutes a graph; Keras has one step an execution there",
)
@pytest.mark.parametrize(
    # XLA is what JAX has by itself, and TensorFlow when asked.
    "options",
    [{"steps_per_execution": 2}, {"jit_compile": BACKEND != "jax"}],
)
def test_ways_to_run_a_step_give_the_same_losses(options, plain_losses):
    model = small_model()
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), **options)
    found = losses(model, random_batch(batch=4, size=(64, 64)), 3, shuffle=False)
    np.testing.assert_allclose(found, plain_losses, rtol=1e-4)


def test_class_weights_are_refused(compiled):
    batch = random_batch(size=(64, 64))
    with pytest.raises(ValueError, match="class_weight"):
        compiled.fit(batch["images"], batch["bounding_boxes"], class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize(
    "policy", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_recomputed_maps_have_the_same_gradients(policy):
    """A rate of 1: a step takes the gradients themselves off the weights."""
    batch, steps = random_batch(size=(64, 96)), []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        backbone = ResNet(18, base_channels=8, frozen_stages=1, dtype=policy)
        model = small_model(backbone=backbone, dtype=policy)
        before = [to_numpy(v).copy() for v in model.trainable_variables]
        model.compile(keras.optimizers.SGD(1.0), recompute=recompute)
        losses(model, batch, 1)
        steps.append([b - to_numpy(v) for b, v in zip(before, model.trainable_variables)])
    tolerance = 1e-5 if policy == "float32" else 1e-2
    for kept, recomputed in zip(*steps, strict=True):
        scale = max(np.abs(kept).max(), 1e-3)
        np.testing.assert_allclose(recomputed / scale, kept / scale, atol=tolerance)


def test_live_statistics_are_updated_once_where_maps_are_recomputed():
    found = []
    for recompute in (False, True):
        keras.utils.set_random_seed(0)
        backbone = ResNet(18, base_channels=8, batch_norm_statistics="batch")
        model = small_model(backbone=backbone)
        model.compile(keras.optimizers.SGD(0.0), recompute=recompute)
        losses(model, random_batch(size=(64, 64)), 1)
        found.append(to_numpy(backbone.get_layer("bn1").moving_mean))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_only_chosen_layers_train():
    model = small_model()
    model.backbone.trainable = False
    model.feature_pyramid.trainable = False
    model.compile(keras.optimizers.Adam(1e-2))
    frozen = [to_numpy(v.value).copy() for v in model.backbone.weights]
    head = [to_numpy(v.value).copy() for v in model.head.trainable_variables]
    losses(model, random_batch(size=(64, 64)), 2)
    for before, variable in zip(frozen, model.backbone.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(variable.value), before)
    for before, variable in zip(head, model.head.trainable_variables, strict=True):
        if "/scale_" in variable.path:  # of a level: without an object it has no gradient
            continue
        assert np.abs(to_numpy(variable.value) - before).max() > 0, variable.path


def test_callbacks_work_together(tmp_path):
    """The monitored metric comes from COCOMetrics, which stands before those who read it."""
    from keras_gflv2.evaluation import COCOMetrics

    model = small_model()
    model.compile(keras.optimizers.Adam(1e-3, use_ema=True, ema_momentum=0.5))
    batch = random_batch(size=(64, 64))
    callbacks = [
        COCOMetrics([batch]),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "best.keras", monitor="val_AP", mode="max", save_best_only=True
        ),
        keras.callbacks.EarlyStopping(monitor="val_AP", mode="max", patience=1),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
    ]
    history = model.fit(
        batch, epochs=8, verbose=0, callbacks=callbacks, validation_data=batch
    ).history
    assert {"val_AP", "val_loss", "loss"} <= set(history)
    assert (tmp_path / "best.keras").is_file()
    assert model.evaluate(batch, verbose=0, return_dict=True)["loss"] > 0
