"""Whether the splits of a dataset mean the same by a class."""

import itertools

import numpy as np

from keras_gflv2.data.checks.report import Finding, counted

MIN_BOXES = 8  # of a class in each split, to compare how they look
MIN_GAIN = 0.5  # nats a box by which another class must explain the boxes better
MIN_T = 4.0  # and the same in standard errors
MIN_Z = 6.0  # standard errors by which a class must be more frequent in one split
MIN_RATIO = 2.0  # and how many times as frequent
SPREAD = 0.1  # least standard deviation, in units of that of all boxes


def find_differing_lists(parts, features):
    """Class lists that differ between splits: other names, or other numbers for a name.

    Args:
        parts: {split: `Annotations`}.
        features: as for `find_exchanged`.
    """
    (first, reference), *others = parts.items()
    for split, annotations in others:
        names, expected = annotations.class_names, reference.class_names
        # Lists that are made of the objects need not have all.
        missing = set(expected) - set(names) if annotations.category_ids else set()
        other = set(names) - set(expected)
        used = {names[label] for record in annotations.records for label in record.classes}
        if missing or other:
            yield Finding(
                "error" if missing or other & used else "warning",
                "class_lists",
                f"{split} and {first} have different classes",
                [
                    f"{n} (only in {split if n in names else first})"
                    for n in sorted(missing | other)
                ],
                "Give all splits one list of classes.",
            )
        ids = [dict(zip(a.class_names, a.category_ids or [])) for a in (reference, annotations)]
        moved = [n for n in names if n in ids[0] and n in ids[1] and ids[0][n] != ids[1][n]]
        if moved:
            is_confirmed = _names_explain(ids, moved, features[first], features[split])
            yield Finding(
                "warning" if is_confirmed else "error",
                "class_order",
                f"the same numbers name other classes in {split} than in {first}",
                [f"{n} is {ids[0][n]} in {first} and {ids[1][n]} in {split}" for n in moved],
                "Names decide. The boxes look as if they were numbered anew, too."
                if is_confirmed
                else "Names decide, so that one of the two lists is wrong unless the boxes were "
                "numbered anew with it: compare the pictures on the contact sheet.",
            )


def _names_explain(ids, moved, reference, of_class):
    """Whether the boxes look like those of their names, and not like those of their numbers."""
    models = _models(reference)
    by_number = {number: name for name, number in ids[0].items()}
    own = {name: by_number.get(ids[1][name]) for name in moved}
    compared = [
        _log_likelihood(of_class[name], models[name])
        - _log_likelihood(of_class[name], models[other])
        for name, other in own.items()
        if name in models and other in models and name in of_class
    ]
    return bool(compared) and min(gain.mean() for gain in compared) > MIN_GAIN


def find_differing_names(lists):
    """Lists of class names of one dataset that contradict each other.

    Args:
        lists: {file: names}.
    """
    (first, expected), *others = lists.items()
    for file, names in others:
        if names != expected:
            yield Finding(
                "error",
                "class_order",
                f"{file} and {first} list the classes differently",
                [f"{file}: {', '.join(names)}", f"{first}: {', '.join(expected)}"],
                "Labels are numbers: only one of the two lists can be right.",
            )


def find_exchanged(parts, features, counts):
    """Classes whose boxes look like those of another class of the first split.

    Args:
        parts: {split: `Annotations`}.
        features: {split: {class name: (N, F)}}, numbers that describe each box.
        counts: {split: what `annotations.count` returns}.
    """
    (first, reference), *others = features.items()
    models = _models(reference)
    for split, of_class in others:
        moved = _moved(models, of_class)
        # Two that go to one class are a matter of style; classes that change places are not.
        if len(moved) >= 2 and len(set(moved.values())) == len(moved):
            shares = [_shares(counts[name]) for name in (first, split)]
            yield Finding(
                "error",
                "class_order",
                f"{len(moved)} classes of {split} look like other classes of {first} in size, "
                "shape and color: their labels seem to be in another order",
                [
                    f"{name} ({shares[1][name]:.0%} of the boxes) looks like {other} of {first} "
                    f"({shares[0][other]:.0%}) and not like its {name} ({shares[0][name]:.0%})"
                    for name, other in moved.items()
                ],
                "Compare the pictures of the classes on the contact sheet.",
                _examples(parts, split, moved),
            )


def find_other_shares(counts):
    """Classes that are much more frequent in one split than in the first."""
    (first, reference), *others = counts.items()
    for split, count in others:
        totals = [sum(of["classes"].values()) for of in (reference, count)]
        items = []
        for name, number in count["classes"].items():
            numbers = (reference["classes"].get(name, 0), number)
            shares = [n / max(total, 1) for n, total in zip(numbers, totals)]
            pooled = sum(numbers) / max(sum(totals), 1)
            error = np.sqrt(pooled * (1 - pooled) * sum(1 / max(total, 1) for total in totals))
            differs = abs(shares[0] - shares[1]) > MIN_Z * max(error, 1e-9)
            if min(numbers) and differs and max(shares) > MIN_RATIO * min(shares):
                items.append(f"{name} ({shares[0]:.0%} and {shares[1]:.0%})")
        if items:
            yield Finding(
                "warning",
                "class_shares",
                f"{counted(len(items), 'class has', 'classes have')} very different parts of the "
                f"boxes in {first} and {split}",
                items,
                "The images were not divided at random, or labels were exchanged.",
            )


def find_transposed(features):
    """Splits whose boxes look like those of the first one with x and y exchanged."""
    (first, reference), *others = features.items()
    models = _models(reference)
    for split, of_class in others:
        gains = [
            _log_likelihood(_exchanged(rows), models[name]) - _log_likelihood(rows, models[name])
            for name, rows in of_class.items()
            if name in models
        ]
        gain = np.concatenate([*gains, np.zeros(0)])
        if len(gain) >= MIN_BOXES and _is_clear(gain):
            yield Finding(
                "error",
                "transposed_split",
                f"the boxes of {split} have the shapes of those of {first} with x and y exchanged",
                advice="One of the two may be written as y, x, y, x.",
            )


def _exchanged(rows):
    """Features of the same boxes with x and y exchanged."""
    other = rows.copy()
    other[:, 1] = -rows[:, 1]
    other[:, [2, 3]] = rows[:, [3, 2]]
    return other


def _is_clear(gain):
    """Whether a gain in log-likelihood (N,) is large and no chance."""
    error = max(gain.std() / np.sqrt(len(gain)), 1e-9)
    return gain.mean() > MIN_GAIN and gain.mean() / error > MIN_T


def _models(of_class):
    """{class: (mean, deviation) of each feature}, of classes with enough boxes."""
    if not of_class:
        return {}
    least = SPREAD * np.maximum(np.concatenate(list(of_class.values())).std(0), 1e-6)
    return {
        name: (rows.mean(0), np.maximum(rows.std(0), least))
        for name, rows in of_class.items()
        if len(rows) >= MIN_BOXES
    }


def _moved(models, of_class):
    """{class: the other class that explains its boxes better}"""
    moved = {}
    for name, rows in of_class.items():
        if name not in models or len(rows) < MIN_BOXES:
            continue
        own = _log_likelihood(rows, models[name])
        gains = {
            other: _log_likelihood(rows, model) - own
            for other, model in models.items()
            if other != name
        }
        if not gains:
            continue
        best = max(gains, key=lambda other: gains[other].mean())
        if _is_clear(gains[best]):
            moved[name] = best
    return moved


def _log_likelihood(rows, model):
    """Of each row (N, F) under independent normal distributions, far ones cut: (N,)."""
    mean, deviation = model
    distance = np.minimum(np.abs(rows - mean) / deviation, 5.0)
    return -(0.5 * distance**2 + np.log(deviation)).sum(-1)


def _shares(counts):
    total = max(sum(counts["classes"].values()), 1)
    return {name: number / total for name, number in counts["classes"].items()}


def _examples(parts, split, moved):
    """Two images of each class that moved."""
    annotations = parts[split]
    found = []
    for name in moved:
        label = annotations.class_names.index(name)
        having = (i for i, r in enumerate(annotations.records) if (r.classes == label).any())
        found += [(split, index) for index in itertools.islice(having, 2)]
    return found


def box_features(parts):
    """{split: {class name: (N, 4)}}: position-free features of the annotations alone.

    They are the logarithms of area and aspect ratio, and the center, relative to the image.
    """
    found = {}
    for split, annotations in parts.items():
        of_class = {}
        for record in annotations.records:
            rows = features_of(record)
            for row, label, ignored in zip(rows, record.classes, record.ignored):
                if not ignored:
                    of_class.setdefault(annotations.class_names[label], []).append(row)
        found[split] = {name: np.array(rows) for name, rows in of_class.items()}
    return found


def features_of(record):
    """Features (N, 4) of the boxes of a record."""
    size = np.array([record.width, record.height], "float64")
    boxes = record.boxes.astype("float64") / np.tile(size, 2)
    extent = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    center = (boxes[:, 2:] + boxes[:, :2]) / 2
    pixels = extent * size
    logs = [np.log(extent.prod(-1)), np.log(pixels[:, 0] / pixels[:, 1])]
    return np.concatenate([np.stack(logs, -1), center], axis=-1)
