"""`keras-gflv2 demo`: a GFLV2 learns from generated pictures, in minutes, with no download."""

import pathlib
import time

from keras_gflv2.cli.arguments import add_verbose, positive_int, write_json
from keras_gflv2.cli.evaluate import format_metrics
from keras_gflv2.cli.sources import SHAPES_SIZE

NAME = "demo"
HELP = "train on generated pictures and show the result"

# The demo: small enough for two CPU cores, and still a whole GFLV2.
EPOCHS = 10
BATCH_SIZE = 8
LEARNING_RATE = 3e-3
BETA_2 = 0.99
TRAIN_OBJECTS = (3, 8)
TRAIN_IMAGES = 768
VAL_IMAGES = 128
PICTURES = 8


def add_arguments(parser):
    parser.add_argument("--output", default="keras_gflv2_demo", help="folder to write to")
    parser.add_argument("--epochs", type=positive_int, default=EPOCHS, help="training epochs")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the shuffling")
    add_verbose(parser)


def run(arguments):
    """Trains a small GFLV2 on generated pictures, scores it and shows what it finds."""
    import keras

    from keras_gflv2 import data, recipes
    from keras_gflv2.evaluation import evaluate_coco
    from keras_gflv2.visualization import draw_validation

    arguments.when_interrupted = "; nothing was written. A training that goes on is: train --resume"
    start = time.monotonic()
    keras.utils.set_random_seed(arguments.seed)
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    print(
        f"Demo of GFLV2 on {keras.backend.backend()}: {TRAIN_IMAGES} generated pictures of "
        f"circles, squares and triangles, {arguments.epochs} epochs, some minutes on a CPU."
    )
    train_ds = data.load_shapes(
        "train",
        num_images=TRAIN_IMAGES,
        objects=TRAIN_OBJECTS,
        batch_size=BATCH_SIZE,
        train=True,
        seed=arguments.seed,
    )
    val_ds = data.load_shapes("val", num_images=VAL_IMAGES, batch_size=BATCH_SIZE)
    model = build_model(train_ds.class_names)
    plan = recipes.get("scratch").plan(
        TRAIN_IMAGES, BATCH_SIZE, epochs=arguments.epochs, learning_rate=LEARNING_RATE
    )
    model.compile(plan.optimizer(model, beta_2=BETA_2))
    model.fit(train_ds, epochs=arguments.epochs, shuffle=False, verbose=arguments.verbose)

    print(f"\nScoring on {VAL_IMAGES} pictures which it has not seen:")
    metrics = evaluate_coco(model, val_ds, verbose=arguments.verbose)
    print(format_metrics(metrics))
    model.save(output / "model.keras")
    draw_validation(model, val_ds, PICTURES).save(output / "detections.png")
    write_json(output / "metrics.json", metrics)
    print(
        f"\nCOCO AP {metrics['AP']:.3f} after {time.monotonic() - start:.0f} s.\n\n"
        "The same with your own pictures (COCO, Pascal VOC or TFDS; `--help` shows all options):\n"
        "  keras-gflv2 train --data coco:train.json:IMAGES --validation-data coco:val.json:IMAGES"
        " --output my_run\n"
        "  keras-gflv2 train --data voc:VOC_FOLDER:train --validation-data voc:VOC_FOLDER:val"
        " --output my_run\n"
        "  keras-gflv2 predict my_picture.jpg --model my_run --output my_pictures\n"
    )
    print(f"Wrote model.keras, detections.png and metrics.json to {output}")


def build_model(class_names):
    """The detector of the demo: a ResNet-18 of a quarter of the width, 128 x 128 pixels."""
    import keras_gflv2

    return keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(
            depth=18, base_channels=16, batch_norm_statistics="batch", zero_init_residual=False
        ),
        num_classes=len(class_names),
        fpn_channels=48,
        head_channels=48,
        head_depth=2,
        head_norm_groups=8,
        class_names=class_names,
        image_size=SHAPES_SIZE,
    )
