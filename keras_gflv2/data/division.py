"""Divides images without given splits into those to train on and those to validate on.

The division is a fact of the images' names and of a seed, the same on every machine. An image that
is added changes no other's side.
"""

import hashlib
import os

SUBSETS = ("train", "val")


def check_subset(fraction, subset):
    """Raises ValueError where `validation_fraction` and `subset` cannot be used together."""
    if not 0 <= fraction < 1:
        raise ValueError(
            "`validation_fraction` must be a part of the images, 0..1. "
            f"Received: validation_fraction={fraction!r}"
        )
    if (subset is None) != (fraction == 0) or subset not in (None, *SUBSETS):
        raise ValueError(
            '`validation_fraction` needs `subset="train"` or `subset="val"`, and the other way '
            f"round. Received: validation_fraction={fraction!r}, subset={subset!r}"
        )


def divide(records, fraction, subset, seed=0):
    """The records of one side.

    Args:
        records: list of `Record`.
        fraction: part of the images to validate on; about so many are chosen, and at least one.
        subset: "train" or "val"; None for all records.
        seed: int.

    Raises:
        ValueError: there is one image only.
    """
    if subset is None:
        return records
    names = [_source_name(record.name) for record in records]
    places = {name: _place(name, seed) for name in names}
    if len(places) < 2:
        raise ValueError(
            f"`validation_fraction` cannot divide {len(records)} images of {len(places)} names."
        )
    ranked = sorted(places, key=places.get)
    chosen = {name for name in ranked if places[name] < fraction} or {ranked[0]}
    if len(chosen) == len(ranked):
        chosen.remove(ranked[-1])
    return [record for record, name in zip(records, names) if (name in chosen) == (subset == "val")]


def _source_name(name):
    """The name without what differs between copies of a picture, such as Roboflow's versions."""
    return os.path.splitext(name.replace("\\", "/"))[0].partition(".rf.")[0]


def _place(name, seed):
    """A number in 0..1 for a name."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
