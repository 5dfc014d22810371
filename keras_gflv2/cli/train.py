"""`keras-gflv2 train`: trains a detector and writes everything of the run to one folder."""

import contextlib
import io

from keras_gflv2.cli import new_model
from keras_gflv2.cli.arguments import (
    add_image_size,
    add_validation_fraction,
    add_verbose,
    flag,
    positive_float,
    positive_int,
)
from keras_gflv2.cli.data import tell_of_data
from keras_gflv2.cli.devices import launch_processes, launches_processes, use_devices
from keras_gflv2.cli.run_folder import RunFolder
from keras_gflv2.cli.sources import (
    DATA_HELP,
    SHAPES_SIZE,
    adapt_model,
    division_options,
    load_data,
    load_model,
    parse_data,
    validation_data,
)

NAME = "train"
HELP = "train a detector on your images"

RECIPES = ("1x", "2x", "finetune", "scratch")
DEFAULT_IMAGE_SIZE = (800, 1333)
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")

AUGMENTATIONS = {
    "horizontal_flip": "probability of a mirror image",
    "vertical_flip": "probability of turning an image upside down",
    "rotate90": "probability that a batch is turned by 90 degrees",
    "scale": "range of the factor by which an image is scaled inside its frame",
    "translate": "largest shift as a fraction of height and width",
    "brightness": "largest relative change",
    "contrast": "largest relative change",
    "saturation": "largest relative change",
    "hue": "largest rotation in turns, up to 0.5",
    "mosaic": "probability that an image is put together from parts of four, in all epochs but the "
    "last quarter",
}
DISTILLATION = {
    "temperature": "of the teacher's and the student's distributions; 10 if not given",
    "distillation_weight": "of the distance between them in the loss; 0.25 if not given",
}


def add_arguments(parser):
    data = parser.add_argument_group("data")
    data.add_argument("--data", help=f"images to train on: {DATA_HELP}")
    data.add_argument("--validation-data", help="images to score each epoch on, in the same form")
    add_validation_fraction(data, "keep a part of --data for that")
    data.add_argument(
        "--batch-size", type=positive_int, default=8, help="images a step, on all devices together"
    )
    add_image_size(data)
    data.add_argument(
        "--scale-range",
        type=positive_int,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="multi-scale training: the short side is drawn from this range instead",
    )
    for name, text in AUGMENTATIONS.items():
        if name != "scale":
            default = 0.5 if name == "horizontal_flip" else 0.0
            data.add_argument(flag(name), type=float, default=default, help=text)
    data.add_argument(
        "--scale",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        default=(1.0, 1.0),
        help=AUGMENTATIONS["scale"],
    )

    data.add_argument(
        "--class-balance",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="for long-tailed data: classes that fewer than this fraction of the images have are "
        "shown more often",
    )

    new_model.add_arguments(parser.add_argument_group("model"))

    training = parser.add_argument_group("training")
    training.add_argument(
        "--recipe",
        choices=RECIPES,
        help="1x and 2x are the paper's; finetune is for small data and a pretrained detector, "
        "the choice with --model; scratch is for training from nothing, the choice without",
    )
    training.add_argument("--epochs", type=positive_int, help="passes, if not the recipe's")
    training.add_argument(
        "--learning-rate", type=float, help="its peak, if not the recipe's for this batch size"
    )
    training.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of layers; weights are float32"
    )
    training.add_argument(
        "--accumulate", type=positive_int, help="steps whose gradients make one update"
    )
    training.add_argument(
        "--ema",
        type=float,
        metavar="MOMENTUM",
        help="of the average of the weights that replaces them in the end, if not the recipe's; "
        "0 for none",
    )
    training.add_argument(
        "--freeze-backbone", action="store_true", help="train only what is after the backbone"
    )
    training.add_argument(
        "--devices",
        type=positive_int,
        help="how many GPUs of this machine train together; of several machines each runs the "
        "command (examples/several_devices.md)",
    )
    training.add_argument("--seed", type=int, default=0, help="of weights, shuffling, augmentation")

    distillation = parser.add_argument_group("distillation")
    distillation.add_argument(
        "--teacher",
        metavar="MODEL",
        help="detector whose side distributions are imitated (localization distillation), in the "
        "forms of --model; with the same strides and --reg-max; its classes may be others",
    )
    for name, text in DISTILLATION.items():
        distillation.add_argument(flag(name), type=positive_float, help=text)

    run = parser.add_argument_group("run")
    run.add_argument("--output", required=True, metavar="RUN_DIR", help="folder to write to")
    run.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in RUN_DIR from its last checkpoint, as if it had never stopped; "
        "its arguments are taken from there; what the state depends on cannot change",
    )
    run.add_argument(
        "--checkpoint-minutes", type=float, default=5.0, help="between checkpoints of an epoch"
    )
    run.add_argument(
        "--tensorboard",
        action="store_true",
        help="write logs and detections for TensorBoard to RUN_DIR/tensorboard",
    )
    run.add_argument(
        "--dry-run", action="store_true", help="check all data and say what would be done"
    )
    add_verbose(run)


def run(arguments):
    """Trains a detector and writes everything of the run to one folder."""
    if not arguments.data:
        raise ValueError(f"--data is missing. Expected: {DATA_HELP}")
    new_model.check_arguments(arguments)
    for name in DISTILLATION:
        if getattr(arguments, name) and not arguments.teacher:
            raise ValueError(f"{flag(name)} is for distillation: name a --teacher, too.")
    if launches_processes(arguments.devices):
        launch_processes(arguments.devices, arguments.argv)
        return
    from keras_gflv2.replicas import is_chief
    from keras_gflv2.training.interruption import exits_on_sigterm

    scope, devices = use_devices(arguments.devices)
    chief = is_chief()
    folder = RunFolder(arguments.output)
    if not chief:
        arguments.verbose = 0  # one process speaks for all
    _check_devices(arguments, devices)
    with contextlib.ExitStack() as stack:
        stack.enter_context(exits_on_sigterm())
        if not chief:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        elif folder.path.exists() and not arguments.dry_run:
            # Before minutes of reading; a folder that is not there is made after them.
            stack.enter_context(folder.claim(arguments.resume))
        for line in getattr(arguments, "changes", ()):
            print(line)
        _train(arguments, folder, scope, devices, stack)


def _train(arguments, folder, scope, devices, stack):
    import keras

    from keras_gflv2 import training
    from keras_gflv2.replicas import in_this_process, is_chief, wait_for_all
    from keras_gflv2.training.state import check_resumption

    with scope:
        # First: it must change neither the student's random weights nor have its precision.
        teacher = load_model(arguments.teacher) if arguments.teacher else None
        keras.utils.set_random_seed(arguments.seed)
        keras.config.set_dtype_policy(arguments.precision)
        model, train_ds = _model_and_data(arguments)
        plan = _plan(arguments, train_ds)
        _compile(model, plan, arguments)
        if teacher:
            _distill(model, teacher, arguments)
    val_ds = validation_data(arguments, model)
    tell_of_data(arguments, model, train_ds, val_ds)
    on = f" on {devices} devices" if devices > 1 else ""
    print(f"{_count(train_ds)}, classes {', '.join(model.class_names)}; {plan}{on}.")
    chief = is_chief()
    if chief and not arguments.dry_run:
        stack.enter_context(folder.claim(arguments.resume))
    check_resumption(folder.path, model, train_ds, plan.epochs, command_line=True)
    if arguments.dry_run:
        _check_data(model, train_ds, val_ds)
        return

    epoch, step = training.read_position(folder.path)
    if chief:
        folder.clear_leftovers()
        arguments.epochs = plan.epochs
        folder.write_record(arguments, model)
        arguments.when_interrupted = (
            f"; continue with: keras-gflv2 train --output {folder.path} --resume"
        )
    print(f"Training from step {step} of epoch {epoch + 1}.")
    training.fit(
        model,
        train_ds,
        folder.path,
        plan.epochs,
        seconds=60 * arguments.checkpoint_minutes,
        callbacks=_train_callbacks(folder, val_ds, epoch, arguments, chief),
        verbose=arguments.verbose,
    )
    if chief:
        with in_this_process():
            folder.write_models(model, val_ds)
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


def _model_and_data(arguments):
    """The detector for the classes of the training data, and that data."""
    base = load_model(arguments.model) if arguments.model else None
    image_size = arguments.image_size
    if image_size is None:
        is_shapes = parse_data(arguments.data)[0] == "shapes"
        from_nothing = SHAPES_SIZE if is_shapes else DEFAULT_IMAGE_SIZE
        image_size = base.image_size if base else from_nothing
    image_size = tuple(image_size)
    training_size = _recipe(arguments).image_size(*image_size)
    if arguments.scale_range:
        training_size = (tuple(arguments.scale_range), image_size[1])
    train_ds = load_data(
        arguments.data,
        batch_size=arguments.batch_size,
        image_size=training_size,
        train=True,
        seed=arguments.seed,
        augmentation=_augmentation(arguments),
        class_balance=arguments.class_balance,
        padding_color=base.padding_color if base else None,
        **division_options(arguments, "train"),
    )
    classes = {
        "num_classes": len(train_ds.class_names),
        "class_names": train_ds.class_names,
        "image_size": image_size,
        "bounding_box_format": train_ds.bounding_box_format,
    }
    if base is None:
        return new_model.new_model(arguments, **classes), train_ds
    return adapt_model(base, **classes, dtype=arguments.precision), train_ds


def _augmentation(arguments):
    from keras_gflv2.data import Augmentation

    values = {name: getattr(arguments, name) for name in AUGMENTATIONS}
    epochs = arguments.epochs or _recipe(arguments).epochs
    # The last quarter sees images as they are in use.
    mosaic_epochs = epochs - epochs // 4
    return Augmentation(**{**values, "scale": tuple(values["scale"])}, mosaic_epochs=mosaic_epochs)


def _recipe(arguments):
    from keras_gflv2 import recipes

    return recipes.get(arguments.recipe or ("finetune" if arguments.model else "scratch"))


def _plan(arguments, train_ds):
    recipe, batch_size = _recipe(arguments), arguments.batch_size
    rate = arguments.learning_rate or recipe.peak(batch_size * (arguments.accumulate or 1))
    images = len(train_ds) * batch_size
    return recipe.plan(images, batch_size, epochs=arguments.epochs, learning_rate=rate)


def _compile(model, plan, arguments):
    if arguments.freeze_backbone:
        model.backbone.trainable = False
    options = {}
    if arguments.ema is not None:
        options["use_ema"] = arguments.ema > 0
        options["ema_momentum"] = arguments.ema or 0.99  # which Keras wants in 0..1 all the same
    if arguments.accumulate:
        options["gradient_accumulation_steps"] = arguments.accumulate
    optimizer = plan.optimizer(model, **options)
    model.compile(optimizer)
    # With its variables made now, TensorFlow traces the training step once, not twice.
    model.optimizer.build(model.trainable_variables)


def _distill(model, teacher, arguments):
    from keras_gflv2.training import distill

    options = {"temperature": arguments.temperature, "weight": arguments.distillation_weight}
    distill(model, teacher, **{name: value for name, value in options.items() if value})


def _check_data(model, train_ds, val_ds):
    """Reads every image; raises what training would have raised in its midst."""
    import numpy as np

    for name, dataset in (("training", train_ds), ("validation", val_ds)):
        if dataset is None:
            continue
        for problem, count in getattr(dataset, "report", {}).items():
            print(f"{name} data: {problem}: {count}")
        boxes = np.zeros(model.num_classes, "int64")
        for batch in dataset:
            classes = np.asarray(batch["bounding_boxes"]["classes"])
            boxes += np.bincount(classes[classes >= 0], minlength=model.num_classes)
        counts = ", ".join(f"{n} {c}" for n, c in zip(model.class_names, boxes))
        print(f"{name} data: every image was read; boxes as the detector sees them: {counts}")
    print(f"The detector has {model.count_params():,} parameters. Nothing was written.")


def _train_callbacks(folder, val_ds, first_epoch, arguments, chief=True):
    import keras

    from keras_gflv2.evaluation import COCOMetrics
    from keras_gflv2.training import Curves, EpochLog, Progress
    from keras_gflv2.visualization import DetectionImages

    callbacks = [Progress(arguments.batch_size, verbose=arguments.verbose)]
    if val_ds is not None:
        best_ap = folder.best_ap(first_epoch) if chief else None
        callbacks.append(COCOMetrics(val_ds, best_model=folder.best, best_so_far=best_ap))
    if not chief:
        return callbacks
    callbacks += [EpochLog(folder.log), Curves(folder.log, folder.curves)]
    if arguments.tensorboard:
        logs = folder.path / "tensorboard"
        callbacks.append(keras.callbacks.TensorBoard(logs))
        if val_ds is not None:
            callbacks.append(DetectionImages(val_ds, logs))
    return callbacks


def _count(dataset):
    count = getattr(dataset, "num_images", None)
    return f"{count} images" if count else f"{len(dataset)} batches"
