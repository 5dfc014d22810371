"""`keras-gflv2 train`: trains a detector and writes everything of the run to one folder."""

import contextlib
import io
import time

from keras_gflv2.cli import new_model, train_callbacks, train_options
from keras_gflv2.cli.arguments import flag
from keras_gflv2.cli.data import tell_of_data
from keras_gflv2.cli.devices import launch_processes, launches_processes, use_devices
from keras_gflv2.cli.run_folder import RunFolder
from keras_gflv2.cli.sources import DATA_HELP, load_model, validation_data
from keras_gflv2.cli.train_data import check_data, count_of, model_and_data
from keras_gflv2.cli.train_options import DISTILLATION
from keras_gflv2.cli.train_plan import compile_model, plan_of, take_teacher

NAME = "train"
HELP = "train a detector on your images"
add_arguments = train_options.add_arguments


def run(arguments):
    """Trains a detector and writes everything of the run to one folder."""
    if not arguments.data:
        raise ValueError(f"--data is missing. Expected: {DATA_HELP}")
    began = time.monotonic()
    new_model.check_arguments(arguments)
    train_callbacks.check_arguments(arguments)
    for name in DISTILLATION:
        if getattr(arguments, name) and not arguments.teacher:
            raise ValueError(f"{flag(name)} is for distillation: name a --teacher, too.")
    if launches_processes(arguments.devices):
        launch_processes(arguments.devices, arguments.argv)
        return
    from keras_gflv2.replicas import is_chief

    scope, devices = use_devices(arguments.devices)
    chief = is_chief()
    folder = RunFolder(arguments.output)
    if not chief:
        arguments.verbose = 0  # one process speaks for all
    _check_devices(arguments, devices)
    with contextlib.ExitStack() as stack:
        if not chief:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        elif folder.path.exists() and not arguments.dry_run:
            # Before minutes of reading; a folder that is not there is made after them.
            stack.enter_context(folder.claim(arguments.resume))
        for line in getattr(arguments, "changes", ()):
            print(line)
        _train(arguments, folder, scope, devices, stack, began)


def _train(arguments, folder, scope, devices, stack, began):
    import keras

    from keras_gflv2 import training
    from keras_gflv2.replicas import in_this_process, is_chief, wait_for_all
    from keras_gflv2.training.state import check_resumption

    with scope:
        # First: it must change neither the student's random weights nor have its precision.
        teacher = load_model(arguments.teacher) if arguments.teacher else None
        keras.utils.set_random_seed(arguments.seed)
        keras.config.set_dtype_policy(arguments.precision)
        # A state that is there brings all weights.
        is_new = training.read_position(folder.path) == (0, 0)
        model, train_ds = model_and_data(arguments, load_weights=is_new)
        plan = plan_of(arguments, train_ds)
        compile_model(model, plan, arguments)
        if teacher:
            take_teacher(model, teacher, arguments)
    val_ds = validation_data(arguments, model)
    tell_of_data(arguments, model, train_ds, val_ds)
    on = f" on {devices} devices" if devices > 1 else ""
    print(f"{count_of(train_ds)}, classes {', '.join(model.class_names)}; {plan}{on}.")
    chief = is_chief()
    if chief and not arguments.dry_run:
        stack.enter_context(folder.claim(arguments.resume))
    check_resumption(folder.path, model, train_ds, plan.epochs, command_line=True)
    if arguments.dry_run:
        check_data(model, train_ds, val_ds)
        return

    epoch, step = training.read_position(folder.path)
    if chief:
        folder.clear_leftovers()
        arguments.epochs, arguments.recipe = plan.epochs, plan.recipe.name
        folder.write_record(arguments, model, {"train": train_ds, "validation": val_ds})
        arguments.when_interrupted = (
            f"; continue with: keras-gflv2 train --output {folder.path} --resume"
        )
    print(f"Training from step {step} of epoch {epoch + 1}.")
    experiments = train_callbacks.experiment_logs(folder, arguments) if chief else []
    limit = arguments.time_limit and began + arguments.time_limit - time.monotonic()
    try:
        training.fit(
            model,
            train_ds,
            folder.path,
            plan.epochs,
            seconds=60 * arguments.checkpoint_minutes,
            time_limit=limit,
            callbacks=train_callbacks.train_callbacks(
                folder, val_ds, epoch, arguments, chief, experiments
            ),
            verbose=arguments.verbose,
        )
    except training.TimeIsUp:
        print(f"stopped by --time-limit{getattr(arguments, 'when_interrupted', '')}")
        return
    if chief:
        with in_this_process():
            folder.write_models(model, val_ds)
        for log in experiments:
            log.add_files(folder.small_files())
    wait_for_all(model)  # The end of one process ends the others.


def _check_devices(arguments, devices):
    import keras

    if arguments.batch_size % devices:
        raise ValueError(
            f"--batch-size {arguments.batch_size} is what all devices have together: a multiple of "
            f"their number, {devices}."
        )
    if devices > 1 and arguments.accumulate and keras.backend.backend() == "tensorflow":
        raise ValueError(
            "Keras cannot accumulate gradients in a TensorFlow strategy: leave out --accumulate, "
            "or use KERAS_BACKEND=jax or torch."
        )
