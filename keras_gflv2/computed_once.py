"""Properties that are computed at most once per object, when they are asked for."""


class computed_once:
    """`functools.cached_property` without its lock.

    Until Python 3.12 that one has a lock for all objects of the class. TensorFlow's strategies
    trace a step in one thread per replica, and a sum over replicas in one waits for the others:
    with the lock they would wait for each other forever.

    Args:
        function: the method of which it is made.
    """

    def __init__(self, function):
        self.function = function
        self.__doc__ = function.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        # From now on the attribute of the object is found first.
        value = instance.__dict__[self.name] = self.function(instance)
        return value
