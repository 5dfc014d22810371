"""Divides images without given splits into those to train on and those to validate on.

The division is a fact of the images' names and of a seed, the same on every machine: images are
ranked by a hash of their names, and the first are for validation. Where images are added, others
keep their side but for the few at the border.
"""

import collections
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
        fraction: part of the images to validate on; at least one, and not all.
        subset: "train" or "val"; None for all records.
        seed: int.

    Raises:
        ValueError: there are fewer than two images.
    """
    if subset is None:
        return records
    names = [_source_name(record.name) for record in records]
    counts = collections.Counter(names)
    ranked = sorted(counts, key=lambda name: _place(name, seed))
    if len(ranked) < 2:
        raise ValueError(
            f"`validation_fraction` cannot divide {len(records)} images of {len(ranked)} names."
        )
    wanted = fraction * len(records)
    chosen, number = {ranked[0]}, counts[ranked[0]]
    for name in ranked[1:-1]:
        # As near to the number as versions of one picture that stay together allow.
        if number + counts[name] / 2 > wanted:
            break
        chosen.add(name)
        number += counts[name]
    return [record for record, name in zip(records, names) if (name in chosen) == (subset == "val")]


def _source_name(name):
    """The name without what differs between copies of a picture, such as Roboflow's versions."""
    return os.path.splitext(name.replace("\\", "/"))[0].partition(".rf.")[0]


def _place(name, seed):
    """A number in 0..1 for a name."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
