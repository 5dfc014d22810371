"""What the parts of a detector that have no weights share: arguments are the configuration."""

import inspect

import keras


class Part:
    """An object whose constructor arguments are attributes, and its configuration.

    Subclasses are registered with `keras.saving.register_keras_serializable`, so that a saved
    detector keeps them.
    """

    def get_config(self):
        return {name: getattr(self, name) for name in _argument_names(type(self))}

    @classmethod
    def from_config(cls, config):
        return cls(**{name: _deserialize(value) for name, value in config.items()})

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def _argument_names(cls):
    """Names of the arguments of a constructor, and of those that its `**kwargs` go to."""
    names = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        names |= {parameter.name: None for parameter in plain}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)


def _deserialize(value):
    """The objects of a configuration, inside lists too; plain values stay as they are."""
    if isinstance(value, (list, tuple)):
        return [_deserialize(item) for item in value]
    is_object = isinstance(value, dict) and "class_name" in value
    return keras.saving.deserialize_keras_object(value) if is_object else value


def serialize(name, part):
    """The configuration of a part of a detector.

    Raises:
        ValueError: naming the argument, it has none.
    """
    try:
        return keras.saving.serialize_keras_object(part)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` cannot be saved: {part!r} needs a method `get_config` that returns its "
            "constructor arguments, and the decorator keras.saving.register_keras_serializable()."
        ) from error


def deserialize(name, config, custom_objects=None, or_else=""):
    """The part of a configuration, which stays as it is.

    Args:
        name: of the argument, for the message.
        config: what `serialize` returned.
        custom_objects: {name: class or function} of parts that are not registered.
        or_else: what else the user can do where the part is not known.

    Raises:
        ValueError: it is of a class that is not known.
    """
    try:
        # A copy: deserializing empties what it reads.
        return keras.saving.deserialize_keras_object(_copy(config), custom_objects)
    except (TypeError, ValueError) as error:
        saved = config.get("config") if config["class_name"] == "function" else None
        saved = saved or config["class_name"]
        if "Could not locate" not in str(error) and saved != "<lambda>":
            raise
        raise ValueError(
            f"`{name}` of this detector was {saved!r}, which is not known here. Import the module "
            "that registers it with keras.saving.register_keras_serializable(), or load with "
            f"`custom_objects={{{saved!r}: ...}}`{or_else}."
        ) from error


def _copy(config):
    """Dictionaries and lists anew; what else is in them stays itself."""
    if isinstance(config, dict):
        return {key: _copy(value) for key, value in config.items()}
    return [_copy(item) for item in config] if isinstance(config, list) else config
