"""What can be set on the layers inside a model: whether they train, and their dtype policies.

Keras saves both for a model as a whole and for the layers of a plain functional model. A model
whose configuration is its constructor's arguments makes its layers anew: here is what was set on
single ones after that.
"""

import contextlib
import re

import keras


class LayerSettings:
    """What differs from the settings with which a constructor made the layers of its model.

    A layer that the constructor did not make is compared with the layer that holds it.

    Args:
        model: a model at the end of its constructor.
        without: a part of it whose layers are left out.
        made: False where `model` was made by others: no layer is known.
    """

    def __init__(self, model, without=None, made=True):
        self._without = without
        self._made = {}
        if made:
            self._made = {path: _settings(layer) for path, layer, *_ in self._walk(model)}
            self._made[""] = (True, model.dtype_policy.name)

    def changes(self, model):
        """{path: {"trainable": bool, "dtype": name, "variables": {name: bool}}} of the layers that
        differ, each with what differs."""
        changes = {}
        for path, layer, holder_path, holder in self._walk(model):
            own = {}
            expected = self._expected(path, holder_path, holder)
            for key, value, other in zip(("trainable", "dtype"), _settings(layer), expected):
                if value != other:
                    own[key] = value
            odd = [v for v in layer._trainable_variables if v.trainable != layer.trainable]
            if odd:
                own["variables"] = {v.name: v.trainable for v in odd}
            if own:
                changes[path] = own
        return changes

    def apply(self, model, changes, policies=True):
        """Sets on the layers of an equal model what `changes` returned.

        Args:
            model: the model; whether it trains itself is set already.
            changes: the dictionary.
            policies: False leaves dtype policies as they are.
        """
        for path, layer, holder_path, holder in self._walk(model):
            own = changes.get(path, {})
            trains, policy = self._expected(path, holder_path, holder)
            set_trainable(layer, own.get("trainable", trains))
            for variable in layer._trainable_variables:
                variable.trainable = own.get("variables", {}).get(variable.name, layer.trainable)
            policy = own.get("dtype", policy)
            if policies and policy != layer.dtype_policy.name:
                layer.dtype_policy = policy

    def _expected(self, path, holder_path, holder):
        """Settings of a layer on which nothing was set."""
        of_holder = _settings(holder)
        trains, policy = self._made.get(path, of_holder)
        # What is set on a layer is set on those inside it too.
        if of_holder[0] != self._made.get(holder_path, of_holder)[0]:
            trains = of_holder[0]
        return trains, policy

    def _walk(self, layer, path="", seen=None):
        """(path, layer, path of its holder, holder) of all layers inside a layer, holders first."""
        if seen is None:
            seen = set()
            if self._without is not None:
                seen = {id(inside) for inside in self._without._flatten_layers()}
        for key, inside in _inside(layer):
            if id(inside) in seen:
                continue
            seen.add(id(inside))
            below = f"{path}/{key}" if path else key
            yield below, inside, path, layer
            yield from self._walk(inside, below, seen)


class CompositeLayer(keras.layers.Layer):
    """A layer whose configuration keeps the settings of the layers inside it.

    Its subclasses call `remember_layers` at the end of their constructors.
    """

    def remember_layers(self):
        self.layer_settings = LayerSettings(self)
        if not self.trainable:
            self.trainable = False  # of what is inside too, which Keras leaves out here

    def get_config(self):
        config, changes = super().get_config(), self.layer_settings.changes(self)
        return {**config, "layer_settings": changes} if changes else config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        changes = config.pop("layer_settings", {})
        layer = super().from_config(config)
        layer.layer_settings.apply(layer, changes)
        return layer


def _settings(layer):
    return layer.trainable, layer.dtype_policy.name


def _inside(layer):
    """Pairs of a key and a layer: names, and for those that Keras makes up their numbers.

    Keras counts through a session ("conv2d_57"), which another session does not repeat.
    """
    counts = {}
    # A functional model's are those of its graph: parts that were replaced stay in the other list.
    layers = layer._flatten_layers(include_self=False, recursive=False)
    for inside in layer.layers if isinstance(layer, keras.Model) else layers:
        key, kind = inside.name, type(inside).__name__.lower()
        plain = re.sub(r"_\d+$", "", key)
        if plain.replace("_", "") == kind:
            key = plain
        counts[key] = counts.get(key, 0) + 1
        yield key if counts[key] == 1 else f"{key}_{counts[key]}", inside


def set_trainable(layer, value):
    """Sets whether a layer trains, and leaves the layers inside it as they are."""
    layer._trainable = value
    for variable in layer._trainable_variables:
        variable.trainable = value


@contextlib.contextmanager
def default_policy(policy):
    """Within it layers that are given no dtype policy get this one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def replace_policies(config, policy):
    """A serialized layer or model with another dtype policy wherever it has one."""
    if isinstance(config, list):
        return [replace_policies(item, policy) for item in config]
    if not isinstance(config, dict):
        return config
    # A dtype that is a plain name is that of a tensor, as inputs have it.
    replaced = {key: replace_policies(value, policy) for key, value in config.items()}
    return {**replaced, "dtype": policy} if isinstance(config.get("dtype"), dict) else replaced
