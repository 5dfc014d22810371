"""The options of `keras-gflv2 train`, by group."""

from keras_gflv2.cli import new_model
from keras_gflv2.cli.arguments import (
    add_image_size,
    add_validation_fraction,
    add_verbose,
    duration,
    flag,
    positive_float,
    positive_int,
)
from keras_gflv2.cli.sources import DATA_HELP

RECIPES = ("1x", "2x", "finetune", "scratch")
LOGS = ("tensorboard", "wandb", "mlflow")
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
    "mixup": "probability that another image is mixed with one that is no mosaic, in the same "
    "epochs",
    "erase": "probability that a part of the image is painted over",
}
# The names of `Augmentation.preset`, which cannot be asked without importing TensorFlow.
AUGMENTATION_PRESETS = ("none", "light", "strong")
DISTILLATION = {
    "temperature": "of the teacher's and the student's distributions; 10 if not given",
    "distillation_weight": "of the distance between them in the loss; 0.25 if not given",
}


def add_arguments(parser):
    """Adds all options to the parser of `train`."""
    _add_data(parser.add_argument_group("data"))
    new_model.add_arguments(parser.add_argument_group("model"))
    _add_training(parser.add_argument_group("training"))
    _add_distillation(parser.add_argument_group("distillation"))
    _add_run(parser.add_argument_group("run"))


def _add_data(group):
    group.add_argument("--data", help=f"images to train on: {DATA_HELP}")
    group.add_argument("--validation-data", help="images to score each epoch on, in the same form")
    add_validation_fraction(group, "keep a part of --data for that")
    group.add_argument(
        "--batch-size", type=positive_int, default=8, help="images a step, on all devices together"
    )
    add_image_size(group)
    group.add_argument(
        "--scale-range",
        type=positive_int,
        nargs=2,
        metavar=("MIN", "MAX"),
        help="multi-scale training: the short side is drawn from this range instead",
    )
    group.add_argument(
        "--augment",
        choices=AUGMENTATION_PRESETS,
        help="how much images are changed at random (docs/training.md says by what); if not given, "
        "half of them are mirrored; the options below replace single parts of it",
    )
    for name, text in AUGMENTATIONS.items():
        options = {"nargs": 2, "metavar": ("LOW", "HIGH")} if name == "scale" else {}
        group.add_argument(flag(name), type=float, help=text, **options)
    group.add_argument(
        "--class-balance",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="for long-tailed data: classes that fewer than this fraction of the images have are "
        "shown more often",
    )


def _add_training(group):
    group.add_argument(
        "--recipe",
        choices=RECIPES,
        help="1x and 2x are the paper's; finetune is for small data and pretrained weights, the "
        "choice with --model or a pretrained --backbone; scratch is for training from nothing, the "
        "choice without",
    )
    group.add_argument("--epochs", type=positive_int, help="passes, if not the recipe's")
    group.add_argument(
        "--learning-rate", type=float, help="its peak, if not the recipe's for this batch size"
    )
    group.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of layers; weights are float32"
    )
    group.add_argument(
        "--accumulate", type=positive_int, help="steps whose gradients make one update"
    )
    group.add_argument(
        "--ema",
        type=float,
        metavar="MOMENTUM",
        help="of the average of the weights that replaces them in the end, if not the recipe's; "
        "0 for none",
    )
    group.add_argument(
        "--freeze-backbone", action="store_true", help="train only what is after the backbone"
    )
    group.add_argument(
        "--devices",
        type=positive_int,
        help="how many GPUs of this machine train together; of several machines each runs the "
        "command (examples/several_devices.md)",
    )
    group.add_argument("--seed", type=int, default=0, help="of weights, shuffling, augmentation")


def _add_distillation(group):
    group.add_argument(
        "--teacher",
        metavar="MODEL",
        help="detector whose side distributions are imitated (localization distillation), in the "
        "forms of --model; with the same strides and --reg-max; its classes may be others",
    )
    for name, text in DISTILLATION.items():
        group.add_argument(flag(name), type=positive_float, help=text)


def _add_run(group):
    group.add_argument("--output", required=True, metavar="RUN_DIR", help="folder to write to")
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in RUN_DIR from its last checkpoint, as if it had never stopped; "
        "its arguments are taken from there; what the state depends on cannot change",
    )
    group.add_argument(
        "--checkpoint-minutes", type=float, default=5.0, help="between checkpoints of an epoch"
    )
    group.add_argument(
        "--patience",
        type=positive_int,
        metavar="EPOCHS",
        help="end the training when the validation AP has not risen for so many epochs",
    )
    group.add_argument(
        "--time-limit",
        type=duration,
        metavar="TIME",
        help="stop after 8h, 90m, 1h30m or so many minutes, with the state saved for --resume",
    )
    group.add_argument(
        "--log",
        nargs="+",
        choices=LOGS,
        help="where else to log every epoch: tensorboard to RUN_DIR/tensorboard, with detections; "
        "wandb and mlflow where their environment variables say",
    )
    group.add_argument("--tensorboard", action="store_true", help="the same as --log tensorboard")
    group.add_argument(
        "--dry-run", action="store_true", help="check all data and say what would be done"
    )
    add_verbose(group)
