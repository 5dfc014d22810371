"""Keras finds every class of this package by the time that it can load a model.

Keras can load a saved class once the module of the class was imported. `import keras_gflv2` imports
none of them, because they need Keras and its backend: seconds in which `keras-gflv2 --help` would
only wait. All are imported together with the first module that needs Keras: Keras itself, or a part
of this package, whichever a program imports first.
"""

import importlib
import importlib.abc
import sys

PACKAGE = __name__.partition(".")[0]
NEEDS_NOTHING = {"annotations"}  # names of types, which all others import
WITH_CLASSES = (
    *("assigners", "backbones", "checkpoints", "grid", "layers", "losses", "models"),
    *("postprocessing", "recipes", "representations"),
)
# Imported by no module that has such a class, so that they may be half imported themselves when
# one of these, which they import, brings the others.
ABOVE = {"benchmarking", "cli", "data", "detections", "evaluation", "files", "images", "inputs"}
ABOVE |= {"intervals", "reproduction", "serving", "signals", "tiles", "visualization"}


def import_classes():
    """Imports every module that defines classes of saved models."""
    for name in WITH_CLASSES:
        importlib.import_module(f"{PACKAGE}.{name}")


def import_classes_when_needed():
    """Calls `import_classes` now if Keras is imported already, else after the import of Keras or
    of a module of this package that needs it."""
    if "keras" in sys.modules:
        import_classes()
    else:
        sys.meta_path.insert(0, _ClassesFollow())


class _ClassesFollow(importlib.abc.MetaPathFinder):
    """Finds modules as all others do, and has the classes imported after the first that matters.

    That module is executed to its end before, so that the circle from it through the classes to
    itself does no harm.
    """

    def __init__(self):
        self.is_waiting = True

    def find_spec(self, name, path=None, target=None):
        if not self.is_waiting or not _needs_keras(name):
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = lambda module: self._execute(execute, module)
        return spec

    def _execute(self, execute, module):
        is_first, self.is_waiting = self.is_waiting, False
        try:
            execute(module)
        except BaseException:
            self.is_waiting = is_first  # there may be another attempt
            raise
        if is_first:
            import_classes()


def _needs_keras(name):
    parent, _, child = name.rpartition(".")
    return name == "keras" or (parent == PACKAGE and child not in ABOVE | NEEDS_NOTHING)
