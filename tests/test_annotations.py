"""Public functions and constructors say the types of all arguments, and functions that of the
result; `mypy` (.ci/run) checks that they are right."""

import importlib
import inspect
import pathlib

import keras_gflv2
from keras_gflv2.models import DenseDetector

ROOMS = {name for name in keras_gflv2.__all__ if name[0].islower()}
METHODS = {
    DenseDetector: ("compile", "predict", "predict_on_batch", "from_preset", "save_to_preset"),
    keras_gflv2.recipes.Recipe: ("plan",),
}
# Not annotated yet, as are the loaders of `data`.
NOT_YET = {"training.fit"}


def public():
    """{name: function} of the package's own functions, constructors and methods."""
    for room in sorted(ROOMS - {"data"}):
        module = importlib.import_module(f"keras_gflv2.{room}")
        for name in module.__all__:
            found = getattr(module, name)
            if inspect.isclass(found):
                if inspect.isfunction(vars(found).get("__init__")):
                    yield f"{room}.{name}", found.__init__
            elif inspect.isfunction(found):
                yield f"{room}.{name}", found
    for owner, names in METHODS.items():
        for name in names:
            yield f"{owner.__name__}.{name}", getattr(owner, name)


def not_annotated(function):
    """Names of the arguments without a type; "return" where a result has none."""
    signature = inspect.signature(function)
    unnamed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.kind not in unnamed
    ]
    if function.__name__ != "__init__" and signature.return_annotation is signature.empty:
        missing.append("return")
    return [name for name in missing if name != "self"]


def test_public_functions_are_annotated():
    missing = {name: not_annotated(function) for name, function in public()}
    assert len(missing) > 80
    assert {name for name, arguments in missing.items() if arguments} <= NOT_YET, missing


def test_users_get_the_annotations():
    assert (pathlib.Path(keras_gflv2.__file__).parent / "py.typed").is_file()
