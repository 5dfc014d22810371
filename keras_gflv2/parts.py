"""What the parts of a detector that have no weights share: their configuration is their arguments."""

import inspect


class Part:
    """An object whose constructor arguments are attributes, and its configuration.

    Subclasses are registered with `keras.saving.register_keras_serializable`, so that a saved
    detector keeps them.
    """

    def get_config(self):
        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
