"""A training that is stopped anywhere goes on as one, or says why it cannot."""

import json
import signal
import subprocess
import sys

import h5py
import keras
import pytest
from common import small_model

from keras_gflv2 import data, recipes, training
from keras_gflv2.training.lock import LOCK_NAME, locked
from keras_gflv2.training.state import FILE_NAME, check_resumption

STEPS = 4  # per epoch


@pytest.fixture(scope="module", autouse=True)
def no_graphs():
    """A few steps of a tiny model are faster without the graph that TensorFlow makes of them."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def shapes(**options):
    defaults = {"num_images": 8, "size": 32, "batch_size": 2, "train": True, "seed": 0}
    return data.load_shapes("train", **{**defaults, **options})


def compiled(recipe="1x"):
    """A detector whose steps are quick: only the length of its first weight is trained."""
    model = small_model()
    model.compile(recipe=recipe)
    first = model.trainable_variables[0]
    model.compute_loss = lambda *args, **kwargs: keras.ops.sum(keras.ops.square(first))
    return model


class Rates(keras.callbacks.Callback):
    """Notes the rate of every step; stops at (epoch, batch) as a process that is killed does."""

    def __init__(self, stop=None):
        super().__init__()
        self.rates, self.stop = {}, stop

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        optimizer = self.model.optimizer
        self.rates[int(optimizer.iterations)] = float(optimizer.learning_rate)

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.stop:
            raise RuntimeError("killed")


def train(directory, epochs, stop=None, model=None, **options):
    callback = Rates(stop)
    arguments = {"seconds": 0, "verbose": 0, "callbacks": [callback], **options}
    model = model or compiled()
    if stop is None:
        training.fit(model, shapes(), directory, epochs, **arguments)
    else:
        with pytest.raises(RuntimeError, match="killed"):
            training.fit(model, shapes(), directory, epochs, **arguments)
    return callback.rates


def planned(epochs, steps, first_step=0):
    """The rates of the paper's schedule for 2 images a step, from its description."""
    decays = [round(part * epochs) * STEPS + first_step for part in (8 / 12, 11 / 12)]
    warmup = epochs * STEPS // 4
    rates = {}
    for step in steps:
        rate = 0.01 * 2 / 16 * (0.001 + 0.999 * min(step / warmup, 1.0))
        rates[step] = rate * 0.1 ** sum(step >= decay for decay in decays)
    return rates


# === One plan ===


def test_a_training_in_parts_has_the_rates_of_a_whole_one(tmp_path):
    """Stopped within the second epoch, again within the same, and at the end of the third."""
    rates = {}
    for stop in ((1, 1), (1, 2), (2, 3), None):
        rates |= train(tmp_path, 4, stop)
    assert rates == pytest.approx(planned(4, range(16)))


def test_other_epochs_are_another_plan_for_the_same_steps(tmp_path):
    train(tmp_path, 4, (1, 1))
    (first, *rest) = sorted(rates := train(tmp_path, 6, (3, 2)))
    assert first == 5 and rest  # the step that was being made when it was killed is made again
    assert rates == pytest.approx(planned(6, rates))
    assert train(tmp_path, 5) == pytest.approx(planned(5, range(14, 20)))


def test_a_training_after_another_keeps_its_first_step(tmp_path):
    """An optimizer that has made 10 steps before: in the state, and not guessed from it."""

    def experienced():
        model = compiled()
        model.optimizer.build(model.trainable_variables)
        model.optimizer.iterations.assign(10)
        return model

    rates = train(tmp_path, 3, (1, 1), experienced())
    rates |= train(tmp_path, 3, model=experienced())
    assert rates == pytest.approx(planned(3, range(10, 22), first_step=10))


def test_plain_fit_goes_on_by_initial_epoch():
    """Also with one step of the epoch made, which is begun again."""
    model = compiled()
    model.optimizer.build(model.trainable_variables)
    for first, epochs, done in ((1, 3, STEPS + 1), (2, 3, 2 * STEPS)):
        model.optimizer.iterations.assign(done)
        callback = Rates()
        model.fit(shapes(), initial_epoch=first, epochs=epochs, verbose=0, callbacks=[callback])
        assert callback.rates == pytest.approx(planned(epochs, callback.rates))


@pytest.mark.parametrize(
    ("iterations", "initial_epoch", "expected"),
    [(0, 0, 0), (30, 0, 30), (0, 3, 0), (30, 3, 0), (34, 3, 0), (26, 3, 0), (130, 3, 100)],
)
def test_where_a_training_began(iterations, initial_epoch, expected):
    """Of ten steps per epoch; 26: float16 has skipped four."""
    assert recipes.first_step(iterations, initial_epoch, 10) == expected


# === What it goes on from ===


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A training that was stopped before step 2 of its second epoch."""
    directory = tmp_path_factory.mktemp("stopped")
    train(directory, 3, (1, 2))
    assert training.read_position(directory) == (1, 2)
    return directory


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_images": 4}, "the number of images was 8 .* is 4 now"),
        ({"objects": (5, 5)}, "the digest of the images' names and their boxes"),
        ({"batch_size": 4}, "the number of steps per epoch was 4 .* is 2 now"),
    ],
)
def test_other_data_is_refused(stopped, options, message):
    with pytest.raises(ValueError, match=message) as error:
        check_resumption(stopped, compiled(), shapes(**options), 3)
    assert "`dataset`" in str(error.value) and str(stopped) in str(error.value)


def test_other_classes_are_refused(stopped):
    dataset = shapes()
    dataset.class_names = dataset.class_names[::-1]
    with pytest.raises(ValueError, match=r'was \["circle", .* is now|began, and is \["triangle"'):
        check_resumption(stopped, compiled(), dataset, 3)


def test_another_model_or_optimizer_is_refused(stopped):
    def check(message, model=None, optimizer=None, freeze=False):
        model = model or small_model()
        if freeze:
            model.feature_pyramid.trainable = False
        model.compile(**({"optimizer": optimizer} if optimizer else {"recipe": "1x"}))
        with pytest.raises(ValueError, match=f"`model`: .*{message}"):
            check_resumption(stopped, model, shapes(), 3)

    check('the optimizer was "SGDWithL2" .* is "Adam"', optimizer="adam")
    check("averages", optimizer=recipes.SGDWithL2(use_ema=True))
    check("which weights are trained", freeze=True)
    check("shapes", small_model(head_channels=8))
    check("dtype policies", small_model(dtype="mixed_bfloat16"))
    check_resumption(stopped, compiled(), shapes(), 3)


def test_a_position_outside_of_the_training_is_refused(stopped):
    with pytest.raises(ValueError, match="at step 2 of epoch 2, beyond `epochs`=1"):
        check_resumption(stopped, compiled(), shapes(), 1)
    foreign = shapes().take(STEPS)  # a tf.data dataset without our attributes
    with pytest.raises(ValueError, match="cannot begin within an epoch"):
        check_resumption(stopped, compiled(), foreign, 3)


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_a_truncated_state_names_its_file(stopped, tmp_path, part):
    content = (stopped / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(content[: int(part * len(content))])
    assert_unusable(tmp_path)


@pytest.mark.parametrize(
    "position", ["", "[1]", "[1, 2, 3]", "[-1, 0]", '["1", 0]', "{}", "null", "[1", "[" * 5000]
)
def test_a_state_of_another_kind_names_its_file(tmp_path, position):
    with h5py.File(tmp_path / FILE_NAME, "w") as file:
        file.attrs["position"] = position
    assert_unusable(tmp_path)


def test_weights_of_another_file_name_it(stopped, tmp_path):
    """The record is whole, the weights are not."""
    (tmp_path / FILE_NAME).write_bytes((stopped / FILE_NAME).read_bytes())
    with h5py.File(tmp_path / FILE_NAME, "a") as file:
        del file["layers"]
    assert_unusable(tmp_path)


def assert_unusable(directory):
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(ValueError, match="damaged") as error:
        training.fit(compiled(), shapes(), directory, 3, verbose=0)
    assert str(directory / FILE_NAME) in str(error.value)
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_version_0_1_wrote_the_position_alone(stopped, tmp_path):
    (tmp_path / FILE_NAME).write_bytes((stopped / FILE_NAME).read_bytes())
    with h5py.File(tmp_path / FILE_NAME, "a") as file:
        assert json.loads(file.attrs["training"])["identity"]["num_images"] == 8
        del file.attrs["training"]
    check_resumption(tmp_path, compiled(), shapes(), 3)
    state = training.SaveState(tmp_path, shapes())
    assert (state.epoch, state.step, state.first_step) == (1, 2, 0)


# === One folder ===


def test_a_folder_has_one_training_at_a_time(tmp_path):
    """The lock of a process that is killed is free."""
    code = (
        "import filelock, sys, time; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
        "open(sys.argv[1], 'w').write('4321 ' + __import__('socket').gethostname()); "
        "print('locked', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / LOCK_NAME)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"locked\n"
            with pytest.raises(ValueError, match=f"{tmp_path} is in use: process 4321 trains"):
                train(tmp_path, 1)
        finally:
            other.kill()
    with locked(tmp_path), locked(tmp_path):  # the command line, and fit
        pass
    assert list(tmp_path.iterdir()) == []


# === Signals ===


class Signal(keras.callbacks.Callback):
    """Sends this process a signal within step `batch` of epoch 1."""

    def __init__(self, number, batch, times=1):
        super().__init__()
        self.number, self.batch, self.times = number, batch, times

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, self.batch):
            for _ in range(self.times):
                signal.raise_signal(self.number)


@pytest.fixture(autouse=True)
def ctrl_c():
    """As in a terminal; processes in the background are made to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_saves_at_the_next_step(tmp_path, capsys, number, error):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    model = compiled()
    with pytest.raises(error) as stop:
        training.fit(model, shapes(), tmp_path, 2, verbose=0, callbacks=[Signal(number, 1)])
    assert error is KeyboardInterrupt or stop.value.code == 143
    assert training.read_position(tmp_path) == (1, 2)
    assert "before step 2 of epoch 2" in capsys.readouterr().err
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_signal_in_the_last_step_waits_for_the_end_of_the_epoch(tmp_path):
    done = []
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: done.append(epoch))
    callbacks = [Signal(signal.SIGINT, STEPS - 1), after]
    with pytest.raises(KeyboardInterrupt):
        training.fit(compiled(), shapes(), tmp_path, 3, verbose=0, callbacks=callbacks)
    assert training.read_position(tmp_path) == (2, 0) and done == [0, 1]


def test_a_second_signal_ends_at_once_and_other_data_goes_on_at_its_epoch(tmp_path):
    for times, dataset in ((2, shapes()), (1, shapes().take(STEPS))):
        directory = tmp_path / str(times)
        callbacks = [Signal(signal.SIGINT, 1, times)]
        with pytest.raises(KeyboardInterrupt):
            training.fit(compiled(), dataset, directory, 2, verbose=0, callbacks=callbacks)
        assert training.read_position(directory) == (1, 0)
        assert [path.name for path in directory.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("times", [1, 2])
def test_signals_while_saving_leave_a_whole_state(tmp_path, monkeypatch, times):
    model = compiled()
    save = model.save_weights

    def interrupted(path):
        path.write_bytes(b"half a file")
        for _ in range(times):
            signal.raise_signal(signal.SIGTERM)
        path.unlink()
        save(path)

    train(tmp_path, 1)
    monkeypatch.setattr(model, "save_weights", interrupted)
    with pytest.raises(SystemExit):
        training.fit(model, shapes(), tmp_path, 2, seconds=0, verbose=0)
    # The first lets the save end; the second does not, and the state before it stays.
    assert training.read_position(tmp_path) == ((1, 1) if times == 1 else (1, 0))
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
