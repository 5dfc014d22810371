"""`keras-gflv2 data`: checks a dataset before it is trained on, and writes any as COCO."""

import json
import pathlib

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_validation_fraction,
    add_verbose,
    positive_int,
    write_json,
)
from keras_gflv2.cli.progress import progress
from keras_gflv2.cli.sources import DATA_HELP, SHAPES_SIZE, load_model, parse_data, sources_of

NAME = "data"
HELP = "check a dataset before hours are spent on it, or convert it to COCO"
EXIT_FOUND = 1
IMAGE_SIZE = (800, 1333)


def add_arguments(parser):
    parser.add_argument(
        "data",
        nargs="+",
        metavar="[convert] DATA",
        help=f"the dataset: {DATA_HELP}. With the word `convert` before it, it is written as COCO",
    )
    parser.add_argument("--validation-data", help="images to validate on, in the same form")
    add_validation_fraction(parser, "check the division that train makes with it")
    add_model(parser, required=False)
    add_image_size(parser)
    parser.add_argument(
        "--reg-max",
        type=positive_int,
        help="last bin of a side's distribution: distances reach to so many strides; the model's, "
        "or 16, if not given",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="check the annotations alone: no broken pictures, no duplicates",
    )
    parser.add_argument(
        "--output",
        metavar="PATH",
        help="folder for report.json and contact_sheet.jpg, pictures of what was found; for "
        "convert the JSON file",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON and nothing else"
    )
    add_verbose(parser)


def run(arguments):
    """Checks a dataset, or converts it; 1 if something was found that would spoil a training."""
    if arguments.data[0] == "convert" and len(arguments.data) == 2:
        return _convert(arguments.data[1], arguments.output)
    if len(arguments.data) > 1:
        raise ValueError(
            f"data checks one dataset. Received: {' '.join(arguments.data)}. Images to validate on "
            "come with --validation-data."
        )
    return _check(arguments)


def _check(arguments):
    import warnings

    from keras_gflv2.data.checks import check

    spec = arguments.data[0]
    sources, said = sources_of(spec)
    if said and not arguments.json:
        print(f"{said}.")
    validation = arguments.validation_data and sources_of(arguments.validation_data)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # which become findings
        report = check(
            sources,
            validation,
            validation_fraction=arguments.validation_fraction or 0.0,
            **_detector_options(arguments),
            pixels=not arguments.quick,
            progress=_progress(arguments.verbose),
        )
    print(json.dumps(report.as_dict(), indent=2) if arguments.json else report)
    written = _write(report, arguments) if arguments.output else None
    if not arguments.json:
        print(_verdict(report, arguments.quick))
        if written:
            print(f"Wrote {written}")
    return 0 if report.ok else EXIT_FOUND


def _detector_options(arguments):
    """Image size, distances and strides of the detector that is to be trained."""
    is_shapes = parse_data(arguments.data[0])[0] == "shapes"
    options = {"image_size": SHAPES_SIZE if is_shapes else IMAGE_SIZE}
    if arguments.model:
        options = _options_of(load_model(arguments.model))
    given = {"image_size": arguments.image_size, "reg_max": arguments.reg_max}
    return options | {name: value for name, value in given.items() if value}


def _options_of(model):
    return {
        "image_size": model.image_size,
        "reg_max": getattr(model.representation, "reg_max", 10**6),  # other boxes have no last bin
        "strides": model.grid.strides,
    }


def tell_of_data(arguments, model, train_ds, val_ds):
    """Prints what `train` is about to train on: one paragraph, of the annotations alone.

    Args:
        arguments: of `train`.
        model: the detector, for its image size, strides and distances.
        train_ds, val_ds: datasets of the loaders; the second may be None.
    """
    from keras_gflv2.data.checks import quick_check

    datasets = {"train": train_ds, "val": val_ds}
    parts = {split: ds for split, ds in datasets.items() if hasattr(ds, "annotations")}
    if arguments.validation_fraction:
        print(
            f"Divided by a hash of the names: {train_ds.num_images} images to train on, "
            f"{val_ds.num_images} to validate on (--validation-fraction "
            f"{arguments.validation_fraction:g})."
        )
    elif val_ds is None:
        print("No images to validate on: no epoch is scored. --validation-fraction 0.2 keeps some.")
    if "train" in parts:
        report = quick_check(parts, **_options_of(model))
        print(f"{report.summary()} `keras-gflv2 data` looks at the pictures, too.")


def _progress(verbose):
    """A bar with the time that is left, from the first picture on."""
    bars = []

    def tell(done, total):
        if not bars:
            bars.append(progress(None, verbose, NAME, total, unit="picture"))
        bars[0].update(done - bars[0].n)
        if done == total:
            bars[0].close()

    return tell


def _verdict(report, is_quick):
    errors = sum(finding.severity == "error" for finding in report.findings)
    warned = sum(finding.severity == "warning" for finding in report.findings)
    looked = "the annotations (--quick)" if is_quick else "annotations and pictures"
    spoils = f"{errors} finding{'s' * (errors != 1)} that" if errors else "nothing that"
    warnings = f"{warned} warning{'s' * (warned != 1)}"
    return f"Checked {looked}: {spoils} would spoil a training, {warnings}."


def _write(report, arguments):
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", report.as_dict())
    report.contact_sheet().save(folder / "contact_sheet.jpg", quality=90)
    return f"report.json and contact_sheet.jpg to {folder}"


def _convert(spec, output):
    from keras_gflv2.data.coco_writer import write_coco
    from keras_gflv2.data.records import check_records

    if not output:
        raise ValueError("data convert needs --output FILE.json")
    sources, said = sources_of(spec)
    if said:
        print(f"{said}.")
    output = pathlib.Path(output)
    written = []
    for split, source in sources.items():
        found = source.read()
        check_records(found.records, found.report, train=False)
        path = output if len(sources) == 1 else output.with_stem(f"{output.stem}_{split}")
        folder = write_coco(found, path, lambda path, content: write_json(path, content, None))
        boxes = sum(len(record.boxes) for record in found.records)
        print(f"{source}: {len(found.records)} images, {boxes} boxes")
        written.append(f"{path} (--data coco:{path}:{folder})")
    print(f"Wrote {', '.join(written)}")
