"""Published detectors by name. Models enter theirs: nothing in this package knows a model."""

from typing import Any

# {name: `Preset` with a method `build`}
DETECTORS: dict[str, Any] = {}


def register(*presets):
    """Enters presets of detectors, under their names.

    Args:
        *presets: `Preset`s that also have `detector` (name of the class), `sizes` and
            `build(backbone_arguments, **arguments)`, which makes the detector without weights.
    """
    DETECTORS.update({preset.name: preset for preset in presets})


def find(name):
    """The preset of a name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in DETECTORS:
        raise ValueError(f"{name!r} is none of the presets: {', '.join(DETECTORS)}.")
    return DETECTORS[name]
