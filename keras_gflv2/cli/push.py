"""`keras-gflv2 push`: a detector with its model card to a hub."""

import json
import pathlib

from keras_gflv2.cli.arguments import (
    add_image_size,
    add_model,
    add_validation_fraction,
    add_verbose,
    positive_int,
)
from keras_gflv2.cli.sources import DATA_HELP, evaluation_data, load_model

NAME = "push"
HELP = "put a detector with a model card on the Hugging Face Hub or on Kaggle"
PICTURES = ("curves.png", "detections.png")
# Of a run's arguments, what its card tells.
TOLD = (
    *("model", "backbone", "recipe", "epochs", "batch_size", "learning_rate", "precision"),
    *("augment", "teacher", "seed"),
)


def add_arguments(parser):
    add_model(parser)
    parser.add_argument(
        "target",
        help="hf://USER/NAME or kaggle://USER/NAME/keras/VARIATION; or a folder, to look first at "
        "what would be sent",
    )
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="of the weights, as the hub names it, e.g. apache-2.0, mit or cc-by-4.0",
    )
    parser.add_argument("--card", metavar="FILE.md", help="a model card of your own")
    parser.add_argument(
        "--data",
        help="images to score the detector on, for the card; if not given, the card has what the "
        f"run found on its validation data: {DATA_HELP}",
    )
    parser.add_argument("--batch-size", type=positive_int, default=8, help="images a step")
    add_validation_fraction(parser)
    add_image_size(parser)
    parser.add_argument(
        "--private", action="store_true", help="make a new repository of hf:// a private one"
    )
    parser.add_argument("--message", help="of the version")
    add_verbose(parser)


def run(arguments):
    """Writes the folder, and puts it on the hub if it is for one."""
    from keras_gflv2.checkpoints import hub

    is_handle = "://" in arguments.target
    if is_handle:
        hub.check_upload(arguments.target)
    card = None
    if arguments.card:
        card = pathlib.Path(arguments.card).read_text(encoding="utf-8")
    model = load_model(arguments.model)
    run_folder = pathlib.Path(arguments.model)
    pictures = [run_folder / name for name in PICTURES if (run_folder / name).is_file()]
    if card is None:
        card = _card(arguments, model, run_folder, [path.name for path in pictures])
    options = {"card": card, "files": pictures}
    if is_handle:
        options |= {"license": arguments.license, "private": arguments.private}
        page = model.push_to_hub(arguments.target, message=arguments.message, **options)
        print(f"Wrote {page}: --model {arguments.target}")
    else:
        model.write_hub_folder(arguments.target, **options)
        print(f"Wrote what would be sent to {arguments.target}: README.md is the model card")


def _card(arguments, model, run_folder, pictures):
    from keras_gflv2.checkpoints.model_card import add_pictures, model_card

    facts = facts_of_run(run_folder)
    if arguments.data:
        from keras_gflv2.evaluation import evaluate_coco

        dataset = evaluation_data(arguments.data, model, arguments)
        facts["metrics"] = evaluate_coco(model, dataset, verbose=arguments.verbose)
    target = arguments.target.rstrip("/")
    name = target.split("://")[-1].split("/")[1] if "://" in target else pathlib.Path(target).name
    card = model_card(model, name, arguments.target, license=arguments.license, **facts)
    return add_pictures(card, pictures)


def facts_of_run(folder):
    """What a run of `train` tells of itself, for `model_card`; {} for a folder that is none.

    Args:
        folder: of the run.
    """
    path = folder / "arguments.json"
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    options = record["arguments"]
    # Version 0.1 noted no counts.
    counts = record.get("data") or {"train": {}, "validation": {}}
    validation = options.get("validation_data") or options.get("data")
    sources = {"train": options.get("data"), "validation": validation}
    data = {s: {"source": sources.get(s), **c} for s, c in counts.items() if sources.get(s)}
    training = {name.replace("_", " "): options.get(name) for name in TOLD}
    training = {name: value for name, value in training.items() if value is not None}
    versions = record.get("versions", {})
    training["versions"] = ", ".join(f"{name} {value}" for name, value in versions.items())
    return {"data": data, "metrics": _best_metrics(folder / "log.csv"), "training": training}


def _best_metrics(log):
    """{metric: value} of the epoch with the best AP in a log.csv, None where none was measured."""
    from keras_gflv2.training.progress import read_log

    best = None
    for row in read_log(log)[1]:
        metrics = {}
        for name, value in row.items():
            try:
                metrics[name.removeprefix("val_")] = float(value)
            except ValueError:  # of an epoch that was not measured
                continue
        if metrics.get("AP", -1) >= 0 and (best is None or metrics["AP"] > best["AP"]):
            best = metrics
    return best
