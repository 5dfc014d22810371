"""Learning rates, decays and optimizers of the recipes, for any data."""

import json

import keras
import numpy as np
import pytest
from common import random_batch, small_model, to_numpy

from keras_gflv2 import recipes


def rate(plan, step):
    return float(to_numpy(plan.schedule()(step)))


def test_1x_is_the_papers():
    """117,266 images, 8 GPUs with 2 each: 0.01 after 500 steps, a tenth after epochs 8 and 11."""
    plan = recipes.paper_1x(117_266, batch_size=2, devices=8)
    assert (plan.batch_size, plan.steps_per_epoch, plan.epochs) == (16, 7330, 12)
    assert rate(plan, 0) == pytest.approx(1e-5)
    assert rate(plan, 250) == pytest.approx(0.005, rel=2e-3)
    assert rate(plan, 500) == pytest.approx(0.01)
    assert rate(plan, 8 * 7330 - 1) == pytest.approx(0.01)
    assert rate(plan, 8 * 7330) == pytest.approx(0.001)
    assert rate(plan, 11 * 7330) == pytest.approx(0.0001)


def test_2x_is_twice_as_long_and_has_many_sizes():
    plan = recipes.paper_2x(117_266, 16)
    assert (plan.epochs, plan.decay_epochs) == (24, [16, 22])
    assert recipes.get("2x").image_size(800, 1333) == ((480, 960), 1333)
    assert recipes.get("1x").image_size(800, 1333) == (800, 1333)


@pytest.mark.parametrize("batch_size, devices", [(1, 1), (4, 1), (2, 4), (16, 32)])
def test_the_rate_of_sgd_is_in_proportion_to_the_images_a_step(batch_size, devices):
    images = batch_size * devices
    plan = recipes.paper_1x(10_000_000, batch_size, devices)
    assert rate(plan, 600) == pytest.approx(0.01 * images / 16)
    plan = recipes.finetune(10_000_000, batch_size, devices)
    assert rate(plan, 600) == pytest.approx(1e-3 * (images / 16) ** 0.5, rel=1e-3)


def test_little_data_has_a_short_warm_up():
    plan = recipes.paper_1x(10, 2, epochs=4)
    assert plan.steps == 20 and plan.schedule().warmup_steps == 5
    with pytest.raises(ValueError, match="num_images"):
        recipes.paper_1x(0, 2)
    with pytest.raises(ValueError, match="recipe"):
        recipes.get("3x")


def test_finetune_falls_along_a_cosine():
    plan = recipes.finetune(1600, 16, epochs=10)
    assert rate(plan, 100) == pytest.approx(0.976e-3, rel=2e-3)  # 0.01 + 0.99 (1 + cos 0.1 pi) / 2
    assert rate(plan, 500) == pytest.approx(0.505e-3, rel=1e-3)
    assert rate(plan, 1000) == pytest.approx(1e-5, rel=1e-3)


def test_a_short_training_averages_over_a_twentieth_of_its_steps():
    model = small_model()
    short, long = recipes.finetune(100, 1, epochs=4), recipes.finetune(100_000, 1)
    assert short.optimizer(model).ema_momentum == pytest.approx(1 - 1 / 20)
    assert long.optimizer(model).ema_momentum == pytest.approx(0.998)
    assert not recipes.paper_1x(100, 1).optimizer(model).use_ema


def test_sgd_equals_pytorchs():
    """Three steps on w of the rule v = m v + g + d w; w = w - lr v, written out."""
    variable = keras.Variable(np.float32([1.0, -2.0]))
    optimizer = recipes.SGDWithL2(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), l2=0.01)
    expected, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for step in range(3):
        gradient = np.array([0.5, 0.25]) * (step + 1)
        velocity = 0.9 * velocity + gradient + 0.01 * expected
        expected = expected - 0.1 * 0.5**step * velocity
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    np.testing.assert_allclose(to_numpy(variable.value), expected, rtol=1e-6)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert (again.momentum, again.l2) == (0.9, 0.01)


def test_fit_fits_the_schedule_to_the_data():
    """Of 4 images in batches of 2 and 3 epochs; a second fit is a training of its own."""
    model = small_model()
    model.compile(recipe="1x")
    batch = random_batch(batch=4, size=(64, 64))
    model.fit(batch, batch_size=2, epochs=3, verbose=0)
    schedule = model.optimizer._learning_rate
    assert schedule.peak == pytest.approx(0.01 * 2 / 16)
    assert schedule.boundaries == (4, 6) and schedule.warmup_steps == 1
    model.fit(batch, batch_size=4, epochs=3, verbose=0)
    schedule = model.optimizer._learning_rate
    assert schedule.peak == pytest.approx(0.01 * 4 / 16)
    assert schedule.boundaries == (6 + 2, 6 + 3)


def test_fit_trains_at_the_planned_rate():
    """SGD without momentum and L2: a step changes a weight by the rate times its gradient."""
    recipe = recipes.Recipe("plain", "", 2, sgd=True, learning_rate=0.16, warmup_steps=2)
    model = small_model()
    model.compile(recipe=recipe)
    model.optimizer.momentum = model.optimizer.l2 = 0.0
    first = model.trainable_variables[0]
    model.compute_loss = lambda *args, **kwargs: keras.ops.sum(first)  # a gradient of ones
    values = [to_numpy(first.value).copy()]

    class Values(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            values.append(to_numpy(first.value).copy())

    batch = random_batch(batch=4, size=(64, 64))
    model.fit(batch, batch_size=2, epochs=2, verbose=0, callbacks=[Values()])
    # 2 images a step: 0.16 * 2 / 16 = 0.02; one step of warm-up, then a cosine over four steps.
    fall = [0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * step / 4)) for step in range(4)]
    expected = 0.02 * np.array(fall) * [0.01, 1, 1, 1]
    for before, after, rate in zip(values[:-1], values[1:], expected, strict=True):
        np.testing.assert_allclose(before - after, rate, rtol=1e-2, atol=1e-6)


def test_an_unknown_amount_of_data_is_said():
    model = small_model()
    model.compile(recipe="1x")
    batch = random_batch(size=(64, 64))
    batches = ((batch["images"], batch["bounding_boxes"]) for _ in range(2))
    with pytest.warns(UserWarning, match="16 images"):
        model.fit(batches, verbose=0)
    with pytest.raises(ValueError, match="one of the two"):
        model.compile("sgd", recipe="1x")


@pytest.mark.parametrize("recipe", list(recipes.RECIPES))
def test_a_compiled_recipe_survives_saving(recipe, tmp_path):
    model = small_model()
    model.compile(recipe=recipe)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_compile_config()["recipe"] == recipe
    assert type(loaded.optimizer) is type(model.optimizer)


def test_saved_optimizers_can_be_loaded_without_pytorch():
    """Keras on torch names its own variants of them, also inside a loss scale's optimizer."""
    model = small_model()
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    for optimizer in ("adamw", scaled):
        model.compile(optimizer)
        assert "torch" not in json.dumps(model.get_compile_config())
