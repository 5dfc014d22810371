"""What --data and --model name: datasets and detectors."""

import pathlib
import re

SHAPES_SIZE = (128, 128)

DATA_HELP = (
    "a folder or an annotation file, of which is said what it was taken for, or by name: "
    "coco:ANNOTATIONS.json:IMAGE_DIR, voc:DIR[:SPLIT], yolo:DIR_OR_YAML[:SPLIT], "
    "csv:FILE[:IMAGE_DIR], tfds:NAME:SPLIT or shapes:SPLIT[:NUM_IMAGES] (generated pictures, no "
    "files needed)"
)
FORMS = {
    "coco": ("coco:ANNOTATIONS.json:IMAGE_DIR", 2),
    "voc": ("voc:DIR:SPLIT or voc:DIR", 1),
    "yolo": ("yolo:DIR_OR_YAML:SPLIT or yolo:DIR_OR_YAML", 1),
    "csv": ("csv:FILE:IMAGE_DIR or csv:FILE", 1),
    "tfds": ("tfds:NAME:SPLIT", 2),
    "shapes": ("shapes:SPLIT or shapes:SPLIT:NUM_IMAGES", 1),
}
# Which part of a folder is loaded, the first that there is.
PARTS = {"train": ("train", "trainval", None), "val": ("val", "test", None)}


def parse_data(spec):
    """Splits a --data argument.

    Args:
        spec: one of the forms of `DATA_HELP`.

    Returns:
        Tuple of the kind ("coco", "voc", "yolo", "csv", "tfds", "shapes", or "path" for a folder
        or a file) and its list of parts.

    Raises:
        ValueError: another kind, or a part is missing; the message shows the form.
    """
    kind, _, rest = spec.partition(":")
    if kind not in FORMS:
        if pathlib.Path(spec).exists():
            return "path", [spec]
        raise ValueError(
            f"{spec!r} is no folder and no file, and names no known kind of dataset. Expected a "
            "folder, or one of: " + ", ".join(form for form, _ in FORMS.values())
        )
    form, needed = FORMS[kind]
    # The last colon outside of brackets: TFDS writes slices such as train[:10%].
    parts = re.split(r":(?=[^:\[\]]*(?:\[[^\]]*\])?[^:\[\]]*$)", rest, maxsplit=1)
    if len(parts) < needed or not all(parts):
        raise ValueError(f"{spec!r} is not complete. Expected: {form}")
    if kind == "shapes" and len(parts) == 2 and not parts[1].isdigit():
        raise ValueError(f"{spec!r}: NUM_IMAGES must be a number. Expected: {form}")
    return kind, parts


def sources_of(spec):
    """What a --data argument names.

    Returns:
        Tuple of {split: `Source`}, with the split None where it has none or names one part, and
        what to say of it, None where the argument says itself what it is.
    """
    from keras_gflv2.data.recognize import recognize
    from keras_gflv2.data.source import Source

    kind, parts = parse_data(spec)
    first, second = parts[0], parts[1] if len(parts) > 1 else None
    if kind == "path" or (kind in ("csv", "voc", "yolo") and second is None):
        found = recognize(first, None if kind == "path" else kind)
        return found.sources, str(found)
    if kind in ("coco", "csv"):
        return {None: Source(kind, first, image_dir=second)}, None
    if kind == "shapes":
        count = int(second) if second else None
        return {None: Source(kind, "", split=first, num_images=count)}, None
    return {None: Source(kind, first, split=second)}, None


def load_data(spec, **options):
    """The dataset of a --data argument; of a folder with splits the one to train or validate on.

    Args:
        spec: one of the forms of `DATA_HELP`.
        **options: those of the loaders in `keras_gflv2.data`; None means their default.
    """
    sources, said = sources_of(spec)
    options = {name: value for name, value in options.items() if value is not None}
    parts = PARTS["train" if options.get("train") else "val"]
    split = next((split for split in parts if split in sources), "")
    if split == "":
        raise ValueError(f"{said}. None of them is one of {', '.join(map(str, parts[:-1]))}.")
    if said:
        purpose = "to train on" if options.get("train") else "to score on"
        print(f"{said}. Loading {sources[split]} {purpose}.")
    return sources[split].load(**options)


def validation_spec(arguments):
    """What `train` validates on: a --data argument, or None.

    Raises:
        ValueError: there is more than one answer.
    """
    fraction, given = arguments.validation_fraction, arguments.validation_data
    if fraction and given:
        raise ValueError("--validation-fraction divides --data: leave out --validation-data.")
    sources = sources_of(arguments.data)[0]
    if fraction and "val" in sources:
        raise ValueError(
            f"{arguments.data} has images to validate on: leave out --validation-fraction."
        )
    if fraction:
        return arguments.data
    return given or (str(sources["val"]) if "val" in sources else None)


def validation_data(arguments, model):
    """The dataset that `train` validates on, or None."""
    spec = validation_spec(arguments)
    return evaluation_data(spec, model, arguments) if spec else None


def division_options(arguments, subset):
    """Options of a loader for a part of --data that --validation-fraction divides."""
    fraction = arguments.validation_fraction
    return {"validation_fraction": fraction, "subset": subset} if fraction else {}


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


def check_data(spec):
    """Raises an error if a --data argument has a form that is not known, or is a path where
    nothing is: before Keras is imported and a model is loaded."""
    if not spec:
        return
    spec = spec if isinstance(spec, str) else spec[-1]  # data [convert] DATA
    kind, parts = parse_data(spec)
    if kind not in ("tfds", "shapes") and not pathlib.Path(parts[0]).exists():
        raise FileNotFoundError(f"{spec}: {parts[0]} does not exist.")


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
        **division_options(arguments, "val"),
    )
