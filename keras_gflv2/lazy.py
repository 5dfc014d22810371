"""Properties that are computed when they are first asked for."""


class lazy:
    """A property that is computed at most once per object.

    `functools.cached_property` of Python 3.11 holds a lock meanwhile, one for all objects of the
    class. Replicas of a TensorFlow strategy are threads that wait for each other at every sum over
    them: inside such a property they would wait forever.
    """

    def __init__(self, function):
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.function(instance)
        return value
