"""What a saved detector keeps: its parts, and the settings of its layers."""

import inspect

import keras

from keras_gflv2.backbones.resnet import PyramidBackbone
from keras_gflv2.layer_settings import (
    LayerSettings,
    default_policy,
    replace_policies,
    set_trainable,
)
from keras_gflv2.parts import deserialize, serialize

# Constructor arguments and attributes that are objects of their own.
ARGUMENT_PARTS = (
    "backbone",
    "grid",
    "representation",
    "quality",
    "assigner",
    "criterion",
    "prediction_decoder",
)
ATTRIBUTE_PARTS = ("integral", "calibration")
# Constructor arguments that are no attributes.
NOT_KEPT = ("self", "kwargs", "make_head")


def arguments(model):
    """{name: value} that make a detector like `model` with its constructor."""
    names = [n for n in inspect.signature(type(model).__init__).parameters if n not in NOT_KEPT]
    values = {name: getattr(model, name) for name in names if name != "dtype"}
    return {**values, "dtype": model.dtype_policy} if "dtype" in names else values


def config(model):
    """What `get_config` says of a detector, of its parts and of the layers inside them."""
    config = arguments(model)
    for name in (*ARGUMENT_PARTS, *ATTRIBUTE_PARTS):
        if name in config or getattr(model, name, None) is not None:
            config[name] = serialize(name, getattr(model, name))
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
    """The detector of a configuration, whose parts are serialized or objects.

    A `dtype` that is not serialized is a wish: it holds for all parts, whatever they were saved
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
                config[name] = deserialize(name, config[name], custom_objects)
    if backbone_is_saved and of_backbone:
        _restore_backbone(config["backbone"], of_backbone, as_saved)
    attributes = {name: config.pop(name, None) for name in ATTRIBUTE_PARTS}

    model = cls(**config)
    for name, part in attributes.items():
        if part is not None:
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
