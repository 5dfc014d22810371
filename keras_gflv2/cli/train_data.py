"""What `train` trains on: the data, and the detector for its classes."""

from keras_gflv2.cli import backbone, new_model
from keras_gflv2.cli.sources import (
    SHAPES_SIZE,
    adapt_model,
    division_options,
    load_data,
    load_model,
    parse_data,
)
from keras_gflv2.cli.train_options import AUGMENTATIONS
from keras_gflv2.cli.train_plan import recipe_of

DEFAULT_IMAGE_SIZE = (800, 1333)


def model_and_data(arguments, load_weights=True):
    """The detector for the classes of the training data, and that data.

    Args:
        arguments: of the command line; a default backbone is noted there.
        load_weights: False where a state with all weights follows.
    """
    if arguments.model:
        base, color_of = load_model(arguments.model), "padding_color"
    else:
        base, color_of = backbone.load(arguments, load_weights), "pixel_mean"
    image_size = arguments.image_size
    if image_size is None:
        is_shapes = parse_data(arguments.data)[0] == "shapes"
        from_nothing = SHAPES_SIZE if is_shapes else DEFAULT_IMAGE_SIZE
        image_size = base.image_size if arguments.model else from_nothing
    image_size = tuple(image_size)
    training_size = recipe_of(arguments).image_size(*image_size)
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
        padding_color=getattr(base, color_of, None),
        **division_options(arguments, "train"),
    )
    classes = {
        "num_classes": len(train_ds.class_names),
        "class_names": train_ds.class_names,
        "image_size": image_size,
        "bounding_box_format": train_ds.bounding_box_format,
    }
    if not arguments.model:
        advice = backbone.advice(arguments, getattr(train_ds, "num_images", None))
        if advice:
            print(advice)
        return new_model.new_model(arguments, base, **classes), train_ds
    return adapt_model(base, **classes, dtype=arguments.precision), train_ds


def _augmentation(arguments):
    """The `Augmentation` of the options; they are noted in `arguments`, for a run that goes on."""
    from keras_gflv2.data import Augmentation

    given = {name: getattr(arguments, name) for name in AUGMENTATIONS}
    given = {name: value for name, value in given.items() if value is not None}
    if "scale" in given:
        given["scale"] = tuple(given["scale"])
    epochs = arguments.epochs or recipe_of(arguments).epochs
    # The last quarter sees images as they are in use.
    given["mosaic_epochs"] = epochs - epochs // 4
    preset = arguments.augment
    augmentation = Augmentation.preset(preset, **given) if preset else Augmentation(**given)
    for name in AUGMENTATIONS:
        setattr(arguments, name, getattr(augmentation, name))
    return augmentation


def check_data(model, train_ds, val_ds):
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


def count_of(dataset):
    """How much data there is, in words."""
    count = getattr(dataset, "num_images", None)
    return f"{count} images" if count else f"{len(dataset)} batches"
