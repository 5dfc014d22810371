"""`keras-gflv2 train`: trains a detector and writes everything of the run to one folder."""

import csv
import json
import pathlib

from keras_gflv2.cli.arguments import add_image_size, add_verbose, flag, positive_int, write_json
from keras_gflv2.cli.sources import (
    DATA_HELP,
    SHAPES_SIZE,
    adapt_model,
    evaluation_data,
    load_data,
    load_model,
    parse_data,
)

NAME = "train"
HELP = "train a detector on your images"

# What cannot change between a run and its continuation: the shapes of the weights.
SIZES = (
    "base_channels",
    "fpn_channels",
    "head_channels",
    "head_depth",
    "head_norm_groups",
    "reg_max",
)
ARCHITECTURE = ("model", "backbone", *SIZES)
BACKBONE_DEPTHS = {f"resnet{depth}": depth for depth in (18, 34, 50, 101, 152)}
DEFAULT_IMAGE_SIZE = (800, 1333)
SGD_WARMUP_STEPS = 500
ADAMW_WEIGHT_DECAY = 0.05
ADAMW_CLIPNORM = 10.0

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
    "mosaic": "probability that an image is put together from parts of four",
}


def add_arguments(parser):
    data = parser.add_argument_group("data")
    data.add_argument("--data", help=f"images to train on: {DATA_HELP}")
    data.add_argument("--validation-data", help="images to score each epoch on, in the same form")
    data.add_argument("--batch-size", type=positive_int, default=8, help="images a step")
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

    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        help="detector to start from: a preset, a folder of one, or a .keras file; without it one "
        "is built by the options below and trained from nothing",
    )
    model.add_argument("--backbone", choices=BACKBONE_DEPTHS, default="resnet50", help="its kind")
    for name, default, text in (
        ("base_channels", 64, "channels of the backbone's first stage; fewer make it narrow"),
        ("fpn_channels", 256, "width of the feature pyramid"),
        ("head_channels", 256, "width of the head"),
        ("head_depth", 4, "convolutions in each tower of the head"),
        ("head_norm_groups", 32, "groups of the head's normalisation; divides --head-channels"),
        ("reg_max", 16, "last bin of a side's distribution"),
    ):
        model.add_argument(flag(name), type=positive_int, default=default, help=text)

    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=positive_int, default=12, help="passes over the data")
    training.add_argument(
        "--optimizer",
        choices=("sgd", "adamw"),
        default="sgd",
        help="sgd is the paper's, with steps at 2/3 and 11/12 of the epochs, for pretrained "
        "backbones; adamw with cosine decay is better from nothing and on small data",
    )
    training.add_argument(
        "--learning-rate",
        type=float,
        help="its peak; if not given, 0.01 x batch size / 16 for sgd and 0.001 for adamw",
    )
    training.add_argument("--seed", type=int, default=0, help="of weights, shuffling, augmentation")

    run = parser.add_argument_group("run")
    run.add_argument("--output", required=True, metavar="RUN_DIR", help="folder to write to")
    run.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in RUN_DIR after its last whole epoch; its arguments are taken from "
        "there, those given replace them (more --epochs, for example)",
    )
    add_verbose(run)


def run(arguments):
    """Trains a detector and writes everything of the run to one folder."""
    import keras

    arguments.when_interrupted = (
        f"; continue with: keras-gflv2 train --output {arguments.output} --resume"
    )
    if not arguments.data:
        raise ValueError(f"--data is missing. Expected: {DATA_HELP}")
    output = pathlib.Path(arguments.output)
    _check_run_directory(output, arguments.resume)
    keras.utils.set_random_seed(arguments.seed)
    model, train_ds = _model_and_data(arguments)
    val_ds = None
    if arguments.validation_data:
        val_ds = evaluation_data(arguments.validation_data, model, arguments)
    model.compile(_optimizer(arguments, model, arguments.epochs * len(train_ds)))

    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "arguments.json", _run_record(arguments, model))
    first_epoch = _finished_epochs(output)
    if first_epoch and hasattr(train_ds, "set_epoch"):
        train_ds.set_epoch(first_epoch)
    print(
        f"Training on {_count(train_ds)}, classes {', '.join(model.class_names)}, "
        f"epochs {first_epoch + 1} to {arguments.epochs}."
    )
    model.fit(
        train_ds,
        epochs=arguments.epochs,
        callbacks=_train_callbacks(output, val_ds, first_epoch),
        shuffle=False,  # the dataset does it
        verbose=arguments.verbose,
    )
    _write_models(model, output)


def _model_and_data(arguments):
    """The detector for the classes of the training data, and that data."""
    base = load_model(arguments.model) if arguments.model else None
    image_size = arguments.image_size
    if image_size is None:
        is_shapes = parse_data(arguments.data)[0] == "shapes"
        from_nothing = SHAPES_SIZE if is_shapes else DEFAULT_IMAGE_SIZE
        image_size = base.image_size if base else from_nothing
    image_size = tuple(image_size)
    short_side = tuple(arguments.scale_range) if arguments.scale_range else image_size[0]
    train_ds = load_data(
        arguments.data,
        batch_size=arguments.batch_size,
        image_size=(short_side, image_size[1]),
        train=True,
        seed=arguments.seed,
        augmentation=_augmentation(arguments),
    )
    classes = {
        "num_classes": len(train_ds.class_names),
        "class_names": train_ds.class_names,
        "image_size": image_size,
        "bounding_box_format": train_ds.bounding_box_format,
    }
    if base is None:
        return _new_model(arguments, **classes), train_ds
    if base.num_classes != classes["num_classes"]:
        print(
            f"{arguments.model} knows {base.num_classes} classes, the data has "
            f"{classes['num_classes']}: the classification layer starts from nothing."
        )
    return adapt_model(base, **classes), train_ds


def _new_model(arguments, **classes):
    import keras_gflv2

    backbone = keras_gflv2.backbones.ResNet(
        depth=BACKBONE_DEPTHS[arguments.backbone],
        base_channels=arguments.base_channels,
        batch_norm_statistics="batch",  # no pretrained statistics to rely on
    )
    sizes = {name: getattr(arguments, name) for name in SIZES if name != "base_channels"}
    return keras_gflv2.GFLV2(backbone, **classes, **sizes)


def _augmentation(arguments):
    from keras_gflv2.data import Augmentation

    values = {name: getattr(arguments, name) for name in AUGMENTATIONS}
    return Augmentation(**{**values, "scale": tuple(values["scale"])})


def _optimizer(arguments, model, steps):
    if arguments.optimizer == "adamw":
        return adamw(model, arguments.learning_rate or 1e-3, steps)
    from keras_gflv2 import recipes

    schedule = recipes.WarmUpStepDecay(
        peak=arguments.learning_rate or 0.01 * arguments.batch_size / 16,
        boundaries=(steps * 2 // 3, steps * 11 // 12),
        warmup_steps=min(SGD_WARMUP_STEPS, steps // 4),
    )
    optimizer = recipes.SGDWithL2(schedule)
    optimizer.build(model.trainable_variables)  # as in `adamw`
    return optimizer


def adamw(model, learning_rate, steps, beta_2=0.999):
    """AdamW for training from nothing: warm-up over a twentieth, then cosine to a hundredth.

    Scales, offsets and biases do not decay; the gradient's norm is clipped.

    Args:
        model: whose variables it will train.
        learning_rate: peak of the schedule.
        steps: steps of the whole training.
        beta_2: as in `keras.optimizers.AdamW`.
    """
    import keras

    warmup = max(1, min(100, steps // 20))
    schedule = keras.optimizers.schedules.CosineDecay(
        learning_rate / 100,
        decay_steps=max(1, steps - warmup),
        alpha=0.01,
        warmup_target=learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, beta_2=beta_2, weight_decay=ADAMW_WEIGHT_DECAY, global_clipnorm=ADAMW_CLIPNORM
    )
    optimizer.exclude_from_weight_decay(
        var_list=[v for v in model.trainable_variables if len(v.shape) <= 1]
    )
    # With its variables made now, TensorFlow traces the training step once, not twice.
    optimizer.build(model.trainable_variables)
    return optimizer


def _train_callbacks(output, val_ds, first_epoch):
    import keras

    from keras_gflv2.evaluation import COCOMetrics

    log = output / "log.csv"
    best_ap = _trim_log(log, first_epoch)
    callbacks = []
    if val_ds is not None:
        best = keras.callbacks.ModelCheckpoint(
            output / "best.keras",
            monitor="val_AP",
            mode="max",
            save_best_only=True,
            initial_value_threshold=best_ap,
        )
        callbacks += [COCOMetrics(val_ds), best]
    callbacks.append(keras.callbacks.CSVLogger(log, append=first_epoch > 0))
    # Last: an epoch counts as finished when all of the above is on disk.
    callbacks.append(
        keras.callbacks.BackupAndRestore(
            output / "backup", double_checkpoint=True, delete_checkpoint=False
        )
    )
    return callbacks


def _trim_log(log, first_epoch):
    """Drops rows of unfinished epochs from a run's CSV; returns the best val_AP so far or None."""
    if not log.is_file():
        return None
    with log.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["epoch"]) < first_epoch]
    with log.open("w", newline="") as file:
        writer = csv.DictWriter(file, reader.fieldnames or [])
        if first_epoch:
            writer.writeheader()
            writer.writerows(rows)
    values = [float(row["val_AP"]) for row in rows if row.get("val_AP") not in (None, "", "NA")]
    return max(values, default=None)


def _write_models(model, output):
    """Saves the last model, and as a preset the best one; prints what is where."""
    model.save(output / "model.keras")
    best = output / "best.keras"
    if best.is_file():
        model.load_weights(best)
    model.save_to_preset(output / "preset")
    kind = "best epoch's" if best.is_file() else "last epoch's"
    written = "model.keras (last epoch), " + ("best.keras, " if best.is_file() else "")
    print(
        f"Wrote {written}preset/ (the {kind} weights), log.csv, arguments.json and backup/ to "
        f"{output}"
    )


def _check_run_directory(output, resume):
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file, not a folder.")
    if not resume and output.is_dir() and any(output.iterdir()):
        raise ValueError(
            f"--output {output} is not empty. Add --resume to continue the run in it, or choose "
            "another folder."
        )


def saved_arguments(output):
    path = pathlib.Path(output) / "arguments.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no run to resume in {output}: {path} does not exist. Start it without "
            "--resume."
        )
    return json.loads(path.read_text())["arguments"]


def _run_record(arguments, model):
    """What arguments.json holds: everything needed to repeat the run."""
    import keras

    import keras_gflv2

    transient = ("run", "command", "resume", "output", "traceback", "verbose", "when_interrupted")
    return {
        "arguments": {k: v for k, v in vars(arguments).items() if k not in transient},
        "class_names": model.class_names,
        "versions": {
            "keras_gflv2": keras_gflv2.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
    }


def _finished_epochs(output):
    metadata = output / "backup" / "training_metadata.json"
    return json.loads(metadata.read_text())["epoch"] if metadata.is_file() else 0


def _count(dataset):
    count = getattr(dataset, "num_images", None)
    return f"{count} images" if count else f"{len(dataset)} batches"
