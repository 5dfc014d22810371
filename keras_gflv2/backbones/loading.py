"""Pretrained backbones: by name, of this package, KerasCV and KerasHub; and made ready to train."""

import difflib
import importlib
import inspect

import keras

from keras_gflv2.backbones.normalized import NormalizedBackbone
from keras_gflv2.backbones.presets import copy_layers
from keras_gflv2.backbones.pyramid import pyramid_maps
from keras_gflv2.backbones.res2net import Res2Net
from keras_gflv2.backbones.resnet import PyramidBackbone, ResNet
from keras_gflv2.checkpoints.download import DownloadError
from keras_gflv2.checkpoints.errors import describe

OWN = (ResNet, Res2Net)
LIBRARIES = {"keras_cv": "KerasCV", "keras_hub": "KerasHub"}
STRIDES = {"P3": 8, "P4": 16, "P5": 32}
PROBE = 256  # pixels of an image whose maps are measured
# As the paper has it: the stem and the first stage.
FROZEN_STAGES = 1


def load_backbone(
    name: str, load_weights: bool = True, frozen_stages: int = FROZEN_STAGES
) -> keras.Model:
    """A pretrained backbone by name, `as_pretrained`.

    Args:
        name: of a preset of `ResNet.presets` or `Res2Net.presets`; or "keras_cv:NAME" or
            "keras_hub:NAME", where NAME is what `from_preset` takes there: a preset, a folder or a
            handle of a hub. They get the pixels as they were trained: KerasCV's divided by 255
            (`include_rescaling`), KerasHub's by the preset's `ImageConverter`.
        load_weights: False makes the network alone. KerasCV and KerasHub fetch its configuration
            all the same.
        frozen_stages: see `as_pretrained`.

    Returns:
        A Keras model from RGB in 0..255 to {"P3", "P4", "P5"}.

    Raises:
        ValueError: there is no such backbone, or it has no such maps.
        ImportError: the library is not installed.
        DownloadError: its files cannot be had.
    """
    library, _, rest = name.partition(":")
    if library in LIBRARIES and rest:
        load = _load_keras_cv if library == "keras_cv" else _load_keras_hub
        backbone = load(rest, load_weights)
        _check_strides(backbone, name)
        return as_pretrained(backbone, frozen_stages)
    for cls in OWN:
        if name in cls.presets:
            return cls.from_preset(name, load_weights, frozen_stages=frozen_stages)
    names = [name for cls in OWN for name in cls.presets]
    raise ValueError(
        f"{name!r} is no pretrained backbone. Known are {', '.join(names)}, and keras_cv:NAME and "
        "keras_hub:NAME for those of KerasCV and KerasHub."
    )


def as_pretrained(backbone: keras.Model, frozen_stages: int = FROZEN_STAGES) -> keras.Model:
    """A trained backbone, ready to train in a detector as in the paper.

    The first stages do not train, and batch normalization keeps its statistics, also in training.
    In `ResNet` and `Res2Net` its scales and offsets train; Keras's own layer, which KerasCV,
    KerasHub and others have, knows no such mode: there they do not.

    Args:
        backbone: any that `DenseDetector` takes. One of Keras, KerasCV or KerasHub is changed.
        frozen_stages: how many stages do not train: 1 for the stem and the first stage, 0 for the
            stem, -1 for none. In backbones of others the stages end at the maps P2 (1), P3 (2),
            ...; 0 is none, and so is 1 where there is no P2.

    Returns:
        The backbone; of `ResNet` and `Res2Net` another one with its weights, under the dtype policy
        of the session.
    """
    if isinstance(backbone, PyramidBackbone):
        config = {**backbone.get_config(), "trainable": True}
        # Of the training that it comes from.
        config.pop("layer_settings", None)
        config.pop("dtype")
        config.update(frozen_stages=frozen_stages, batch_norm_statistics="running")
        ready = type(backbone).from_config(config)
        copy_layers(backbone, ready)
        return ready
    backbone.trainable = True
    inner = backbone.backbone if isinstance(backbone, NormalizedBackbone) else backbone
    for layer in inner._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    _freeze_stages(inner, frozen_stages)
    return backbone


def _load_keras_cv(name, load_weights):
    keras_cv = _import("keras_cv")
    handle = place_of(name, presets_of_keras_cv(keras_cv), "KerasCV")
    # KerasCV trains on pixels in 0..1. Its presets divide by 255 themselves; other folders may not.
    options = {"load_weights": load_weights and None, "include_rescaling": True}
    backbone = _fetch(keras_cv.models.Backbone.from_preset, handle, name, **options)
    return NormalizedBackbone(backbone)


def _load_keras_hub(name, load_weights):
    keras_hub = _import("keras_hub")
    preset = place_of(name, keras_hub.models.Backbone.presets, "KerasHub")
    backbone = _fetch(
        keras_hub.models.Backbone.from_preset, preset, name, load_weights=load_weights
    )
    converter = _fetch(keras_hub.layers.ImageConverter.from_preset, preset, name)
    # A detector of KerasHub has a backbone and a pyramid; ours brings its own pyramid.
    backbone = getattr(backbone, "image_encoder", backbone)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    return NormalizedBackbone(backbone, scale, offset)


def _import(library):
    try:
        return importlib.import_module(library)
    except ImportError as error:
        package = library.replace("_", "-")
        raise ImportError(f"{library}:NAME needs {package}: pip install {package}") from error


def presets_of_keras_cv(keras_cv):
    """{name: record} of the presets of all its backbones."""
    known = {}
    for _, cls in inspect.getmembers(keras_cv.models, inspect.isclass):
        if issubclass(cls, keras_cv.models.Backbone):
            known.update(cls.presets)
    return known


def place_of(name, known, library):
    """Where a preset's files are: of a known name its handle; folders and handles are kept."""
    if name in known:
        # KerasCV's video models have none.
        return known[name].get("kaggle_handle", name)
    if "/" not in name and not name.startswith("."):
        close = difflib.get_close_matches(name, known, 3) or sorted(known)[:3]
        raise ValueError(
            f"{name!r} is no backbone of {library}. Similar ones are {', '.join(close)}; a folder "
            "of save_to_preset is given with a / in its path."
        )
    return name


def _fetch(function, preset, name, **options):
    try:
        return function(preset, **options)
    except (ValueError, TypeError, AttributeError):
        raise  # of what the files say
    except Exception as error:  # each hub has errors of its own, and of its HTTP client
        raise DownloadError(
            f"The files of {name} cannot be had from {preset} ({describe(error)}). Check the name "
            "and the network. Without one: get the folder on another machine, by from_preset and "
            "save_to_preset there, and give its path."
        ) from error


def _check_strides(backbone, name):
    """Raises ValueError where a map has not the size that its name says."""
    maps = backbone.compute_output_spec(keras.KerasTensor((1, PROBE, PROBE, 3)))
    found = {level: PROBE / maps[level].shape[1] for level in STRIDES}
    if found != STRIDES:
        raise ValueError(f"{name} has maps of the strides {found}; a detector needs {STRIDES}.")


def _freeze_stages(backbone, frozen_stages):
    """Freezes all layers that the map at the end of a stage is computed by."""
    if frozen_stages < 1:
        return
    maps, level = pyramid_maps(backbone), f"P{frozen_stages + 1}"
    if level in maps:
        for layer in keras.Model(backbone.inputs, maps[level]).layers:
            layer.trainable = False
    elif frozen_stages > FROZEN_STAGES:
        raise ValueError(
            f"frozen_stages={frozen_stages} needs the map {level}, but the backbone has only "
            f"{', '.join(map(str, maps))}."
        )
