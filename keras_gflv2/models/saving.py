"""What a saved detector keeps: its parts, the settings of its layers, and how it was compiled."""

import inspect
import warnings

import keras

from keras_gflv2 import recipes
from keras_gflv2.backbones.resnet import PyramidBackbone
from keras_gflv2.layer_settings import (
    LayerSettings,
    default_policy,
    replace_policies,
    set_trainable,
)
from keras_gflv2.optimizers import restore_variable_settings, variable_settings
from keras_gflv2.replicas import replica_scope

# Constructor arguments and attributes that are objects of their own.
ARGUMENT_PARTS = ("backbone", "prediction_decoder", "assigner")
ATTRIBUTE_PARTS = ("integral",)

# === Configuration ===


def parts_config(model):
    """What `get_config` says of the parts of a detector and of the layers inside them."""
    config = {name: _serialize(name, getattr(model, name)) for name in ARGUMENT_PARTS}
    config |= {name: _serialize(name, getattr(model, name)) for name in ATTRIBUTE_PARTS}
    config["dtype"] = keras.saving.serialize_keras_object(model.dtype_policy)
    changes = model.layer_settings.changes(model)
    if changes:
        config["layer_settings"] = changes
    if not isinstance(model.backbone, PyramidBackbone):  # which keeps them itself
        config["backbone_settings"] = {
            "trainable": model.backbone.trainable,
            "dtype": model.backbone.dtype_policy.name,
            "layers": LayerSettings(model.backbone, made=False).changes(model.backbone),
        }
    if model.preset:
        config["preset"] = dict(model.preset)
    return config


def from_config(cls, config, custom_objects=None):
    """The detector of a configuration, whose parts are serialised or objects.

    A `dtype` that is not serialised is a wish: it holds for all parts, whatever they were saved
    with.
    """
    config = dict(config)
    dtype, as_saved = config.get("dtype"), isinstance(config.get("dtype"), dict)
    changes = config.pop("layer_settings", {})
    of_backbone = config.pop("backbone_settings", None)
    preset = config.pop("preset", None)
    trainable = config.pop("trainable", True)
    if as_saved:
        config["dtype"] = keras.saving.deserialize_keras_object(dtype)
    policy = keras.dtype_policies.get(config.get("dtype"))

    backbone_is_saved = isinstance(config["backbone"], dict)
    if backbone_is_saved and dtype is not None and not as_saved:
        config["backbone"] = replace_policies(config["backbone"], policy)
    # Files of version 0.1 and KerasCV's backbones do not say which policy they have.
    with default_policy(policy):
        for name in (*ARGUMENT_PARTS, *ATTRIBUTE_PARTS):
            if isinstance(config.get(name), dict):
                config[name] = _deserialize(name, config[name], custom_objects)
    if backbone_is_saved and of_backbone:
        _restore_backbone(config["backbone"], of_backbone, as_saved)
    attributes = {name: config.pop(name, None) for name in ATTRIBUTE_PARTS}

    model = cls(**config)
    for name, part in attributes.items():
        if part is not None and _serialize(name, part) != _serialize(name, getattr(model, name)):
            setattr(model, name, part)
    model.preset = preset
    set_trainable(model, trainable)
    model.layer_settings.apply(model, changes, policies=as_saved)
    return model


def _restore_backbone(backbone, settings, policies):
    set_trainable(backbone, settings["trainable"])
    if policies and backbone.dtype_policy.name != settings["dtype"]:
        backbone.dtype_policy = settings["dtype"]
    LayerSettings(backbone, made=False).apply(backbone, settings["layers"], policies)


def _serialize(name, part):
    try:
        return keras.saving.serialize_keras_object(part)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` cannot be saved: {part!r} needs a method `get_config` that returns its "
            "constructor arguments, and the decorator keras.saving.register_keras_serializable()."
        ) from error


def _deserialize(name, config, custom_objects=None):
    try:
        # A copy: deserialising empties what it reads.
        return keras.saving.deserialize_keras_object(_copy(config), custom_objects)
    except (TypeError, ValueError) as error:
        saved = config.get("config") if config["class_name"] == "function" else None
        saved = saved or config["class_name"]
        if "Could not locate" not in str(error) and saved != "<lambda>":
            raise
        how = f"`custom_objects={{{saved!r}: ...}}`"
        if name in COMPILE_OBJECTS:
            how = f"{how}, or `compile=False` and compile the model yourself"
        raise ValueError(
            f"`{name}` of this detector was {saved!r}, which is not known here. Import the module "
            "that registers it with keras.saving.register_keras_serializable(), or load with "
            f"{how}."
        ) from error


def _copy(config):
    """Dictionaries and lists anew; what else is in them stays itself."""
    if isinstance(config, dict):
        return {key: _copy(value) for key, value in config.items()}
    return [_copy(item) for item in config] if isinstance(config, list) else config


# === Compiling ===

LOSSES = ("classification_loss", "box_loss", "distribution_loss")
COMPILE_OBJECTS = (*LOSSES, "optimizer", "recipe")


def compile_config(model, arguments):
    """What a compiled detector was compiled with, and what its optimizer has become since.

    Args:
        model: the detector.
        arguments: of `compile`, but for optimizer and recipe.
    """
    config = {
        **{name: value for name, value in arguments.items() if name not in LOSSES},
        "run_eagerly": model.run_eagerly,
        "steps_per_execution": model.steps_per_execution,
        **{name: _serialize_loss(arguments[name]) for name in LOSSES},
        "optimizer": _serialize("optimizer", model.optimizer),
        "optimizer_variables": variable_settings(model.optimizer, model),
    }
    if model._recipe:
        config["recipe"] = _serialize_recipe(model._recipe)
    return _without_torch_optimizers(keras.saving.serialize_keras_object(config))


def compile_from_config(model, config):
    """Compiles a detector as `compile_config` says, and builds its optimizer."""
    config = {
        name: _deserialize(name, value) if _is_object(value) else value
        for name, value in config.items()
    }
    config = {
        name: value if name in COMPILE_OBJECTS else keras.saving.deserialize_keras_object(value)
        for name, value in config.items()
    }
    recipe = config.get("recipe")
    if config.get("optimizer") is not None:
        config.pop("recipe", None)  # whose optimizer it is
    settings = config.pop("optimizer_variables", None)
    model.compile(**config)
    if recipe:
        model._recipe = recipes.get(recipe)
    if model.built:
        with replica_scope(model):
            if settings is None:  # a file of version 0.1
                settings = {**variable_settings(model.optimizer, model), "built": True}
            restore_variable_settings(model.optimizer, model, settings)


def warn_of_losses(losses):
    """Says which of {name: loss} a saved detector could not find again."""
    for name, loss in losses.items():
        try:
            keras.saving.deserialize_keras_object(_serialize_loss(loss))
        except (TypeError, ValueError):
            warnings.warn(
                f"`{name}` can be trained with, but a saved detector will not load with it: "
                f"{getattr(loss, '__name__', type(loss).__name__)!r} is not registered. Give it a "
                "name and decorate it with @keras.saving.register_keras_serializable().",
                stacklevel=3,
            )


def _is_object(value):
    return isinstance(value, dict) and "class_name" in value


def _serialize_loss(loss):
    if getattr(loss, "__name__", None) == "<lambda>":
        # By name only: its code would be refused when it is loaded, for it could be anything.
        return {"module": "builtins", "class_name": "function", "config": "<lambda>"}
    config = keras.saving.serialize_keras_object(loss)
    # Some of Keras's losses leave out what their functions are called with (Huber's delta).
    known = inspect.signature(type(loss).__init__).parameters
    for key, value in getattr(loss, "_fn_kwargs", {}).items():
        if key in known:
            config["config"].setdefault(key, value)
    return config


def _serialize_recipe(recipe):
    return recipe.name if recipes.RECIPES.get(recipe.name) == recipe else recipe


def _without_torch_optimizers(config):
    """Names the optimizers of Keras where PyTorch's own variants of them stand.

    Keras saves the variants' names, with which nobody can load the model who has no PyTorch.
    """
    if isinstance(config, dict):
        config = {key: _without_torch_optimizers(value) for key, value in config.items()}
        if str(config.get("module")).startswith("keras.src.backend.torch.optimizers"):
            config = {**config, "module": "keras.optimizers", "registered_name": None}
    return config
