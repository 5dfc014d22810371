"""What of a training must be the same when it is resumed, and what it was."""

import hashlib
import json

# What of the training differs, and whose fault it is in Python and on the command line.
ASPECTS = {
    "class_names": ("`dataset`", "--data", "the class names, in their order"),
    "num_images": ("`dataset`", "--data", "the number of images"),
    "data": ("`dataset`", "--data", "the digest of the images' names and their boxes"),
    "steps_per_epoch": ("`dataset`", "--batch-size", "the number of steps per epoch"),
    "weights": ("`model`", "--model", "the number of weights, and the digest of their shapes"),
    "precision": ("`model`", "--precision", "the dtype policies of the layers"),
    "trainable": ("`model`", "--freeze-backbone", "the digest of which weights are trained"),
    "optimizer": ("`model`", "--recipe", "the optimizer"),
    "averages": ("`model`", "--ema", "whether the optimizer averages the weights"),
    "accumulation": ("`model`", "--accumulate", "the number of steps per update"),
    "teacher": (
        "`distill`",
        "--teacher",
        "the teacher (the digest of its weights, the temperature, the weight of its term)",
    ),
}


def identity(model, dataset):
    """What `check_identity` compares: a dictionary for JSON, None for what cannot be seen.

    Args:
        model: a compiled model.
        dataset: what it trains on. Looked at are its length and the attributes that the loaders
            of `keras_gflv2.data` set; those of any other dataset count if they are there.
    """
    optimizer = model.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    trainable = {id(variable) for variable in model.trainable_weights}
    bits = [id(variable) in trainable for variable in model.weights]
    policies = {layer.dtype_policy.name for layer in model._flatten_layers()}
    names = getattr(dataset, "class_names", None)
    teacher = getattr(model, "teacher", None)
    return {
        "class_names": None if names is None else [str(name) for name in names],
        "num_images": getattr(dataset, "num_images", None),
        "data": _data_digest(dataset),
        "steps_per_epoch": length(dataset),
        "weights": [len(bits), digest([list(v.shape) for v in model.weights])],
        "precision": sorted(policies),
        "trainable": [sum(bits), digest(bits)],
        "optimizer": type(inner).__name__,
        "averages": bool(getattr(inner, "use_ema", False)),
        "accumulation": getattr(inner, "gradient_accumulation_steps", None) or 1,
        "teacher": teacher.identity() if teacher else "none",
    }


def check_identity(saved, now, directory, command_line=False):
    """Raises ValueError where a training cannot be the one that is saved in a folder.

    Args:
        saved, now: what `identity` returned when the training began, and returns now.
        directory: the folder.
        command_line: whether to name options, not arguments.
    """
    for name, (argument, option, label) in ASPECTS.items():
        was, found = saved.get(name), now.get(name)
        if was is None or found is None or was == found:
            continue
        raise ValueError(
            f"{option if command_line else argument}: {label} was {_short(was)} when the training "
            f"in {directory} began, and is {_short(found)} now. It goes on only as it began: "
            "restore what has changed, or start a new training in another folder."
        )


def length(dataset):
    """Number of batches of a dataset; None where it is not known."""
    try:
        return len(dataset)
    except TypeError:
        return None


def digest(content):
    """A short hash of lists, numbers and strings."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _data_digest(dataset):
    known = getattr(dataset, "digest", None)
    if known is not None:
        return known
    lists = [getattr(dataset, name, None) for name in ("file_names", "image_ids")]
    if lists == [None, None]:
        return None
    return digest([values and [str(value) for value in values] for values in lists])


def _short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 300 else f"{text[:300]}..."
