"""Trains a small GFLV2 from nothing on BCCD (or any Pascal VOC folder) and scores it.

    python examples/train_bccd.py --data-dir BCCD --config augmented
    python examples/train_bccd.py --data-dir BCCD --config reference --seed 1

BCCD has 364 microscope images of blood cells (https://github.com/Shenggan/BCCD_Dataset, MIT); it is
also the `bccd` of tensorflow_datasets. Writes to --output: the model (`model.keras`), its preset
folder, `log.csv`, `result.json` with AP, AP50, AP per class and the time, and `detections.png`.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import keras

import keras_gflv2
from keras_gflv2.data import Augmentation


@dataclasses.dataclass(frozen=True)
class Config:
    """What the ways of training differ in."""

    image_size: tuple
    augmentation: Augmentation
    epochs: int
    base_channels: int = 64
    channels: int = 96
    learning_rate: float = 1e-3
    batch_size: int = 4
    # Averaged weights are swapped in when training ends; scores on the way are of the raw ones.
    ema: bool = False


STRONG = Augmentation(
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotate90=0.5,
    scale=(0.7, 1.4),
    translate=0.1,
    brightness=0.15,
    contrast=0.15,
    saturation=0.15,
)
CONFIGS = {
    # The configuration with which the official PyTorch code was measured.
    "reference": Config(
        image_size=(240, 320),
        augmentation=Augmentation(horizontal_flip=0.5, vertical_flip=0.5),
        epochs=40,
    ),
    # Stronger augmentation, a narrower backbone, averaged weights.
    "augmented": Config(
        image_size=(240, 320),
        augmentation=STRONG,
        epochs=70,
        base_channels=32,
        ema=True,
    ),
    # Small enough to come with the package, as the preset nano_bccd.
    "nano": Config(
        image_size=(240, 320),
        augmentation=STRONG,
        epochs=70,
        base_channels=16,
        channels=64,
        ema=True,
    ),
}


def build_model(config, class_names):
    """ResNet-18 with live batch statistics, pyramid and head of `config.channels` channels."""
    return keras_gflv2.GFLV2(
        keras_gflv2.backbones.ResNet(
            depth=18, base_channels=config.base_channels, batch_norm_statistics="batch"
        ),
        num_classes=len(class_names),
        fpn_channels=config.channels,
        head_channels=config.channels,
        head_depth=2,
        head_norm_groups=config.channels // 8,
        class_names=class_names,
        image_size=config.image_size,
    )


def build_optimizer(config, model, steps):
    """AdamW with warm-up and cosine; biases, norms and scales do not decay."""
    warmup = min(100, steps // 2)
    schedule = keras.optimizers.schedules.CosineDecay(
        config.learning_rate * 1e-3,
        decay_steps=steps - warmup,
        alpha=1e-2,
        warmup_target=config.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=0.05, global_clipnorm=10.0, use_ema=config.ema, ema_momentum=0.998
    )
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if len(v.shape) <= 1])
    return optimizer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="Pascal VOC folder")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--validation-split", default="val")
    parser.add_argument("--config", default="augmented", choices=CONFIGS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the configuration's")
    parser.add_argument("--output", default="runs/bccd")
    parser.add_argument("--measure-every", type=int, default=10, help="epochs between scores")
    arguments = parser.parse_args()

    config = CONFIGS[arguments.config]
    if arguments.epochs:
        config = dataclasses.replace(config, epochs=arguments.epochs)
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(arguments.seed)

    train_ds = keras_gflv2.data.load_voc(
        arguments.data_dir,
        arguments.train_split,
        batch_size=config.batch_size,
        image_size=config.image_size,
        augmentation=config.augmentation,
        train=True,
        seed=arguments.seed,
    )
    val_ds = keras_gflv2.data.load_voc(
        arguments.data_dir, arguments.validation_split, batch_size=8, image_size=config.image_size
    )
    steps_per_epoch = -(-train_ds.num_images // config.batch_size)
    model = build_model(config, train_ds.class_names)
    model.compile(build_optimizer(config, model, config.epochs * steps_per_epoch))

    start = time.time()
    callbacks = [
        keras_gflv2.evaluation.COCOMetrics(val_ds, frequency=arguments.measure_every),
        keras.callbacks.CSVLogger(str(output / "log.csv")),
    ]
    model.fit(train_ds, epochs=config.epochs, callbacks=callbacks, verbose=2)
    seconds = time.time() - start

    metrics = keras_gflv2.evaluation.evaluate_coco(model, val_ds, verbose=0)
    model.save(output / "model.keras")
    model.save_to_preset(output / "preset")
    result = {
        "config": arguments.config,
        "seed": arguments.seed,
        "training_minutes": round(seconds / 60, 1),
        "parameters": model.count_params(),
        "backend": keras.backend.backend(),
        **metrics,
    }
    (output / "result.json").write_text(json.dumps(result, indent=2))
    keras_gflv2.visualization.draw_validation(model, val_ds).save(output / "detections.png")
    print(json.dumps(result, indent=2))
    print(f"Model, preset, log, result and picture written to {output}/")


if __name__ == "__main__":
    main()
