"""What a detector was compiled with, as a saved file keeps it."""

import inspect
import warnings

import keras

from keras_gflv2 import recipes
from keras_gflv2.optimizers import restore_variable_settings, variable_settings
from keras_gflv2.parts import deserialize, serialize
from keras_gflv2.replicas import replica_scope

LOSSES = ("classification_loss", "box_loss", "distribution_loss", "quality_loss")
COMPILE_OBJECTS = (*LOSSES, "optimizer", "recipe")
OR_ELSE = ", or `compile=False` and compile the model yourself"


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
        "optimizer": serialize("optimizer", model.optimizer),
        "optimizer_variables": variable_settings(model.optimizer, model),
    }
    if model._recipe:
        config["recipe"] = _serialize_recipe(model._recipe)
    return _without_torch_optimizers(keras.saving.serialize_keras_object(config))


def compile_from_config(model, config):
    """Compiles a detector as `compile_config` says, and builds its optimizer."""
    config = {
        name: deserialize(name, value, or_else=OR_ELSE) if _is_object(value) else value
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
