"""Gives every loader the shared options: in its arguments, its signature and its docstring."""

import dataclasses
import difflib
import functools
import inspect
import re

from keras_gflv2.data.loader_options import LoaderOptions

MARK = "options: "  # begins the line of a docstring that the shared options replace


def takes_options(function):
    """Decorator of a loader with a keyword argument `options`, which is made of the shared ones.

    Callers pass the fields of `LoaderOptions` as keyword arguments; `inspect.signature` and `help`
    show them with all others. A loader that names a field among its own arguments gets and
    describes it itself.
    """
    signature = inspect.signature(function)
    own = {name: p for name, p in signature.parameters.items() if name != "options"}
    shared = {
        field.name: inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=field.type,
        )
        for field in dataclasses.fields(LoaderOptions)
        if field.name not in own
    }

    @functools.wraps(function)
    def loader(*args, **arguments):
        _check_names(function, arguments, [*own, *shared])
        options = LoaderOptions(**{n: v for n, v in arguments.items() if n in shared})
        arguments = {name: value for name, value in arguments.items() if name in own}
        return function(*args, **arguments, options=options)

    loader.__signature__ = signature.replace(parameters=[*own.values(), *shared.values()])
    loader.__doc__ = _with_descriptions(function.__doc__, shared)
    return loader


def _check_names(function, arguments, known):
    unknown = [name for name in arguments if name not in known]
    if not unknown:
        return
    close = difflib.get_close_matches(unknown[0], known, 1)
    raise TypeError(
        f"{function.__name__}() got an unexpected keyword argument {unknown[0]!r}. "
        + (f"Did you mean {close[0]!r}?" if close else f"It takes {', '.join(known)}.")
    )


def _with_descriptions(docstring, shared):
    """The docstring of a loader in which the line of its options is those of `LoaderOptions`."""
    if docstring is None:  # python -OO
        return None
    arguments = inspect.cleandoc(LoaderOptions.__doc__).split("Args:\n")[1].split("\n\n")[0]
    entries = re.split(r"\n(?=    \w)", arguments)
    text = "\n".join(entry for entry in entries if entry.split(":")[0].strip() in shared)
    lines = inspect.cleandoc(docstring).splitlines()
    return "\n".join(text if line.strip().startswith(MARK) else line for line in lines)
