"""Ctrl-C, SIGTERM and a time limit: a training ends where it can go on."""

import os
import signal
import threading

from keras_gflv2.replicas import process_position
from keras_gflv2.signals import SIGNALS, TIME_IS_UP, exit_on, stopped_by

# How long the processes of one training wait for each other once they have to end.
PATIENCE = 60.0


class Interruption:
    """Takes SIGINT and SIGTERM within a `with` block, for whoever asks at the next step.

    The first signal is kept in `signal`; a second one ends the block at once. Handlers of the
    user's own stay, and so does a signal that is ignored. Outside of the main thread nothing is
    taken, as Python has it.

    Of several processes the first saves and ends. The others go on with their steps until it is
    gone, so that none waits for a step that another has left; after a minute they end by force.

    Args:
        seconds: a time limit, after which the block ends as by a signal; None for none.

    Attributes:
        signal: number of the signal that came, `TIME_IS_UP` after the time limit, None before.
    """

    def __init__(self, seconds=None):
        self.signal = None
        self._handlers = {}
        self._timer = None
        if seconds is not None:
            self._timer = threading.Timer(max(seconds, 0.0), self._end_by_time)
            self._timer.daemon = True

    def __enter__(self):
        if self._timer:
            self._timer.start()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in _DEFAULTS:
                    self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind, error, traceback):
        if self._timer:
            self._timer.cancel()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.signal is not None:
            raise stopped_by(number)
        name = signal.Signals(number).name
        self._begin_to_end(number, f"{name}: the training ends after this step. Once more ends it")

    def _end_by_time(self):
        if self.signal is None:
            self._begin_to_end(
                TIME_IS_UP, "The time limit: the training ends after this step. Ctrl-C ends it"
            )

    def _begin_to_end(self, number, text):
        self.signal = number
        index, count = process_position()
        if count > 1:
            threading.Thread(target=self._end_by_force, daemon=True).start()
        if index == 0:
            # Not by print: the signal may have come in the midst of one.
            os.write(2, f"\n{text} at once.\n".encode())

    def _end_by_force(self):
        threading.Event().wait(PATIENCE)
        os._exit(128 + self.signal if self.signal else 0)


_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler, exit_on)
