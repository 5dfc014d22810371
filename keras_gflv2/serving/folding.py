"""Batch normalization folded into the convolutions before it: the same function, fewer passes."""

import keras
import numpy as np

from keras_gflv2.backbones.pyramid import feature_extractor
from keras_gflv2.layers import DeformableConv2D
from keras_gflv2.models import saving

FOLDABLE = (keras.layers.Conv2D, DeformableConv2D)


def fold_batch_norm(model):
    """A detector that computes what `model` does in inference, for export: not for training.

    Every batch normalization of the backbone that follows a convolution becomes part of its kernel
    and bias. Weights are copied; `model` stays as it is.
    """
    features = feature_extractor(model.backbone)
    features = keras.Model(features.inputs[0], features.output)
    followers = _followers(features)
    norms = {norm.name for norm in followers.values()}
    clones = {}

    def clone(layer):
        if layer.name not in clones:  # one for all uses of a shared layer
            clones[layer.name] = _clone(layer, layer.name in followers)
        return clones[layer.name]

    def call(layer, *args, **kwargs):
        return args[0] if layer.name in norms else layer(*args, **kwargs)

    folded = keras.models.clone_model(features, clone_function=clone, call_function=call)
    for layer in features.layers:
        if layer.name in followers:
            clones[layer.name].set_weights(_folded(layer, followers[layer.name]))
        elif layer.name in clones and clones[layer.name].weights:
            clones[layer.name].set_weights(layer.get_weights())
    if hasattr(model.backbone, "pixel_mean"):
        folded.pixel_mean = model.backbone.pixel_mean

    arguments = {**saving.arguments(model), "backbone": folded, "trainable": True}
    if arguments.get("quality") is not None:  # a layer is of one detector
        quality = arguments["quality"]
        arguments["quality"] = type(quality).from_config(quality.get_config())
    exported = type(model)(**arguments)
    for name in saving.ATTRIBUTE_PARTS:
        if hasattr(model, name):
            setattr(exported, name, getattr(model, name))
    exported.layer_settings.apply(exported, model.layer_settings.changes(model))
    exported.feature_pyramid.set_weights(model.feature_pyramid.get_weights())
    exported.head.set_weights(model.head.get_weights())
    return exported


def _clone(layer, takes_norm):
    if isinstance(layer, keras.layers.Normalization) and not layer.invert:
        return _rescaling(layer)
    with_bias = {"use_bias": True} if takes_norm else {}
    return type(layer).from_config({**layer.get_config(), **with_bias})


def _rescaling(layer):
    """The same of numbers instead of tensors, which other formats would take for inputs."""
    mean = keras.ops.convert_to_numpy(layer.mean).astype("float64").reshape(-1)
    deviation = np.sqrt(keras.ops.convert_to_numpy(layer.variance).astype("float64").reshape(-1))
    deviation = np.maximum(deviation, keras.config.epsilon())
    return keras.layers.Rescaling(
        list(1 / deviation), list(-mean / deviation), dtype=layer.dtype_policy, name=layer.name
    )


def _followers(features):
    """{name of a convolution: the batch normalization that is all that reads it}."""
    readers = {}
    for layer in features.layers:
        for node in layer._inbound_nodes:
            for tensor in node.input_tensors:
                readers.setdefault(id(tensor), []).append(layer)
    for tensor in keras.tree.flatten(features.output):
        readers.setdefault(id(tensor), []).append(None)  # read from outside
    pairs = {}
    for layer in features.layers:
        used_once = len(layer._inbound_nodes) == 1
        if isinstance(layer, FOLDABLE) and used_once and _is_linear(layer):
            found = readers.get(id(layer.output), [])
            if len(found) == 1 and _is_norm_of_one(found[0]):
                pairs[layer.name] = found[0]
    return pairs


def _is_norm_of_one(layer):
    is_norm = isinstance(layer, keras.layers.BatchNormalization)
    return is_norm and len(layer._inbound_nodes) == 1


def _is_linear(layer):
    return layer.activation is keras.activations.linear if hasattr(layer, "activation") else True


def _folded(layer, norm):
    """Weights of the convolution, in its own order, with the normalization in kernel and bias."""
    variance = keras.ops.convert_to_numpy(norm.moving_variance).astype("float64")
    mean = keras.ops.convert_to_numpy(norm.moving_mean).astype("float64")
    gamma = keras.ops.convert_to_numpy(norm.gamma) if norm.scale else 1.0
    beta = keras.ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    factor = gamma / np.sqrt(variance + norm.epsilon)
    bias = keras.ops.convert_to_numpy(layer.bias) if layer.use_bias else 0.0
    kernel = keras.ops.convert_to_numpy(layer.kernel) * factor
    others = [
        keras.ops.convert_to_numpy(weight)
        for weight in layer.weights
        if weight is not layer.kernel and weight is not layer.bias
    ]
    new = [kernel.astype("float32"), (beta + (bias - mean) * factor).astype("float32")]
    return new + others
