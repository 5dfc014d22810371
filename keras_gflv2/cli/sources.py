"""What --data and --model name: datasets and detectors."""

import pathlib
import re

SHAPES_SIZE = (128, 128)

DATA_HELP = (
    "coco:ANNOTATIONS.json:IMAGE_DIR, voc:DIR:SPLIT, tfds:NAME:SPLIT or shapes:SPLIT[:NUM_IMAGES] "
    "(generated pictures, no files needed)"
)


def parse_data(spec):
    """Splits a --data argument.

    Args:
        spec: one of the forms of `DATA_HELP`.

    Returns:
        Tuple of the kind ("coco", "voc", "tfds", "shapes") and its list of parts.

    Raises:
        ValueError: another kind, or a part is missing; the message shows the form.
    """
    forms = {
        "coco": ("coco:ANNOTATIONS.json:IMAGE_DIR", 2),
        "voc": ("voc:DIR:SPLIT", 2),
        "tfds": ("tfds:NAME:SPLIT", 2),
        "shapes": ("shapes:SPLIT or shapes:SPLIT:NUM_IMAGES", 1),
    }
    kind, _, rest = spec.partition(":")
    if kind not in forms:
        raise ValueError(
            f"{spec!r} names no known kind of dataset. Expected one of: "
            + ", ".join(form for form, _ in forms.values())
        )
    form, needed = forms[kind]
    # The last colon outside of brackets: TFDS writes slices such as train[:10%].
    parts = re.split(r":(?=[^:\[\]]*(?:\[[^\]]*\])?[^:\[\]]*$)", rest, maxsplit=1)
    if len(parts) < needed or not all(parts):
        raise ValueError(f"{spec!r} is not complete. Expected: {form}")
    if kind == "shapes" and len(parts) == 2 and not parts[1].isdigit():
        raise ValueError(f"{spec!r}: NUM_IMAGES must be a number. Expected: {form}")
    return kind, parts


def load_data(spec, **options):
    """The dataset of a --data argument.

    Args:
        spec: one of the forms of `DATA_HELP`.
        **options: those of the loaders in `keras_gflv2.data`; None means their default.
    """
    from keras_gflv2 import data

    kind, parts = parse_data(spec)
    options = {name: value for name, value in options.items() if value is not None}
    if kind == "coco":
        return data.load_coco(*parts, **options)
    if kind == "voc":
        return data.load_voc(*parts, **options)
    if kind == "tfds":
        return data.load_tfds(*parts, **options)
    if len(parts) == 2:
        options["num_images"] = int(parts[1])
    return data.load_shapes(parts[0], **options)


def load_model(spec):
    """The detector of a --model argument: a .keras file, a run's folder or a preset.

    Args:
        spec: path of a `.keras` file; folder that `train` wrote (its best, else its last model is
            taken); folder of `save_to_preset`; or name of a preset.
    """
    import keras_gflv2
    from keras_gflv2.checkpoints.keras_files import load_keras_file

    path = model_path(spec)
    if path.suffix != ".keras":
        return keras_gflv2.DenseDetector.from_preset(spec)
    model = load_keras_file(path)
    if not isinstance(model, keras_gflv2.DenseDetector):
        raise ValueError(f"{path} holds a {type(model).__name__}, not a detector.")
    return model


def check_model(spec):
    """Raises FileNotFoundError if a --model argument is a path where nothing is, before Keras is
    imported. Names and handles of presets are left to `load_model`."""
    path = pathlib.Path(spec or ".")
    is_path = path.suffix == ".keras" or len(path.parts) > 1
    if is_path and "://" not in str(spec) and not path.exists():
        raise FileNotFoundError(
            f"The model {spec} does not exist. `keras-gflv2 presets` lists detectors by name."
        )


def model_path(spec):
    """Where the detector of a --model argument is: of a run's folder, the file in it."""
    path = pathlib.Path(spec)
    if (path / "arguments.json").is_file():
        candidates = [path / "best.keras", path / "model.keras"]
        path = next((c for c in candidates if c.is_file()), candidates[-1])
    return path


def with_views(model, arguments):
    """The detector, or several views of it where --tta asks for them."""
    if not arguments.tta:
        if arguments.box_voting:
            raise ValueError("--box-voting needs --tta.")
        return model
    from keras_gflv2.postprocessing import TestTimeAugmentation

    return TestTimeAugmentation(model, arguments.tta, box_voting=arguments.box_voting)


def adapt_model(model, **changes):
    """A detector with other constructor arguments and the same weights.

    Rows of the classification convolution follow `class_names`; unknown classes start anew.
    """
    from keras_gflv2.models import presets

    adapted = type(model).from_config({**model.get_config(), **changes})
    presets.copy_weights(model, adapted)
    return adapted


def evaluation_data(spec, model, arguments):
    return load_data(
        spec,
        batch_size=arguments.batch_size,
        image_size=tuple(arguments.image_size or model.image_size),
        bounding_box_format=model.bounding_box_format,
        class_names=model.class_names,
        padding_color=model.padding_color,
    )
