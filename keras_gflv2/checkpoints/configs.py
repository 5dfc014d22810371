"""Configurations of strangers: which classes Keras may make of them, before it makes any.

A Keras configuration names classes and functions by module, and Keras looks them up. Some of them
read files, fetch others from the network or run code. `check_classes` lets through what detectors
and their backbones are made of.
"""

import importlib
import inspect
import json
import sys

import keras

from keras_gflv2.checkpoints.errors import describe, shorten

# Larger ones are no configurations; a Keras model of a thousand layers has some 5 MB.
MAX_BYTES = 32 * 2**20
LAYERS = set(
    """Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average
    AveragePooling1D AveragePooling2D BatchNormalization CenterCrop Concatenate Conv1D
    Conv1DTranspose Conv2D Conv2DTranspose Cropping1D Cropping2D Dense DepthwiseConv1D
    DepthwiseConv2D Dot Dropout ELU EinsumDense Embedding Flatten GaussianDropout GaussianNoise
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D
    GroupNormalization GroupQueryAttention Identity InputLayer LayerNormalization LeakyReLU
    MaxPooling1D MaxPooling2D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU
    Permute RMSNormalization ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D
    SeparableConv2D Softmax SpatialDropout1D SpatialDropout2D SpectralNormalization Subtract
    UnitNormalization UpSampling1D UpSampling2D ZeroPadding1D ZeroPadding2D""".split()
)
MODELS = {"Functional", "Model", "Sequential"}
# Data that Keras writes in the form of an object.
DATA = {"__tuple__", "__keras_tensor__", "__slice__", "__ellipsis__", "__numpy__", "__tensor__"}
# Subclasses of these compute numbers from numbers.
KINDS = (
    keras.initializers.Initializer,
    keras.regularizers.Regularizer,
    keras.constraints.Constraint,
    keras.dtype_policies.DTypePolicy,
    keras.dtype_policies.DTypePolicyMap,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.losses.Loss,
    keras.metrics.Metric,
)
# Where Keras looks for a class or function that a configuration names without a module.
MODULES = (
    keras.layers, keras.models, keras.initializers, keras.regularizers, keras.constraints,
    keras.dtype_policies, keras.optimizers, keras.optimizers.schedules, keras.losses, keras.metrics,
)  # fmt: skip
FUNCTIONS = (keras.activations, keras.ops, keras.losses, keras.metrics)
NO_FUNCTIONS = {"get", "serialize", "deserialize"}
# Operations between layers, `x + y` for example, are of these modules.
OPERATIONS = tuple(f"keras.src.ops.{name}" for name in ("image", "linalg", "math", "nn", "numpy"))
APPLICATIONS = "keras.src.applications."  # layers of ConvNeXt, say
BACKBONE_LIBRARIES = {"keras_cv", "keras_hub", "keras_nlp"}
READERS = ("convert", "lookup", "packer", "preprocess", "token")
LIBRARIES = BACKBONE_LIBRARIES | {"jax", "keras", "tensorflow", "tf_keras", "torch"}


def parse_config(content, origin):
    """The dictionary of a JSON text.

    Raises:
        ValueError: it is none; the message says so.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"{origin} has {len(content):,} bytes: it is no configuration.")
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{origin} is not JSON, or was not written to its end ({describe(error)}). Write the "
            "model again, or get the file again."
        ) from None
    if not isinstance(config, dict):
        raise ValueError(f"{origin} must hold a JSON object, got {type(config).__name__}.")
    return config


def check_classes(config, origin, custom_objects=None):
    """Raises ValueError if a configuration names a class that is not loaded from files.

    Let through are the classes of this package, the Keras layers, initializers and the like that
    compute numbers from numbers, backbones of KerasCV and KerasHub, and what the user registered
    with `keras.saving.register_keras_serializable` or passes as a custom object.

    Args:
        config: what `keras.saving.serialize_keras_object` gives, from JSON.
        origin: the file that it is of, for the message.
        custom_objects: {name: class}, as of `keras.saving.load_model`.
    """
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            if "class_name" in value and not _is_allowed(value, custom_objects or {}):
                raise ValueError(_refusal(value, origin))


def count_classes(config):
    """How many objects a configuration describes."""
    count, waiting = 0, [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            count += "class_name" in value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return count


def _refusal(entry, origin):
    name = entry["config"] if entry["class_name"] == "function" else entry["class_name"]
    module = entry.get("module")
    full = f"{module}.{name}" if module else name
    return (
        f"{origin} names {shorten(full)}, which is not loaded from files: it may read other files "
        "or run code, and detectors do not need it. Nothing was loaded. If the class is your own, "
        "import the module that registers it with keras.saving.register_keras_serializable; if "
        "you trust the file, load it within keras.saving.custom_object_scope({name: class})."
    )


def _is_allowed(entry, custom_objects):
    name, module = entry["class_name"], entry.get("module")
    registered = entry.get("registered_name") or name
    if not all(isinstance(part, str) for part in (name, module or "", registered)):
        return False
    if name in DATA:
        return True
    if name == "function":
        return _is_allowed_function(entry.get("config"), module, custom_objects)
    library = str(module).split(".")[0]
    if library in BACKBONE_LIBRARIES:
        _import(library)  # which registers its classes
    for key in (registered, name):
        if key in custom_objects:
            return True
        found = keras.saving.get_registered_object(key)
        if found is not None:
            # What is registered comes before what a module holds.
            return _is_trusted(key, found) or _is_of_backbone(found)
    if module is None:
        found = next((getattr(m, name) for m in MODULES if hasattr(m, name)), None)
    else:
        found = getattr(sys.modules.get(module), name, None)
    return _is_of_keras(found) or _is_of_backbone(found)


def _import(library):
    try:
        importlib.import_module(library)
    except ImportError as error:
        package = library.replace("_", "-")
        raise ValueError(
            f"The configuration has a backbone of {library}: pip install {package}."
        ) from error


def _is_allowed_function(name, module, custom_objects):
    if not isinstance(name, str) or not isinstance(module, str | None):
        return False
    if name in custom_objects:
        return True
    found = keras.saving.get_registered_object(name)
    if found is not None:
        return _is_trusted(name, found)
    if module in (None, "builtins"):
        modules = FUNCTIONS
    else:
        modules = [m for m in FUNCTIONS if m.__name__ == module]
    found = next((getattr(m, name) for m in modules if hasattr(m, name)), None)
    return inspect.isfunction(found) and name not in NO_FUNCTIONS


def _is_trusted(key, found):
    """Whether the user, or this package, made an object known to Keras, and not a library."""
    if key not in keras.saving.get_custom_objects():
        return True  # of a custom_object_scope
    return _library(found) not in LIBRARIES


def _library(found):
    return str(getattr(found, "__module__", "")).split(".")[0]


def _is_of_keras(found):
    if not inspect.isclass(found) or _library(found) != "keras":
        return False
    if issubclass(found, keras.Model):
        return found.__name__ in MODELS
    if issubclass(found, keras.layers.Layer):
        return found.__name__ in LAYERS or found.__module__.startswith(APPLICATIONS)
    if issubclass(found, KINDS):
        return True
    return issubclass(found, keras.Operation) and found.__module__ in OPERATIONS


def _is_of_backbone(found):
    """Whether it is a backbone of KerasCV or KerasHub, or a layer of one."""
    if not inspect.isclass(found) or _library(found) not in BACKBONE_LIBRARIES:
        return False
    path = f"{found.__module__}.{found.__name__}".lower()
    if any(reader in path for reader in READERS):
        return False
    if issubclass(found, keras.Model):
        return found.__name__.endswith("Backbone")
    return issubclass(found, keras.layers.Layer)
