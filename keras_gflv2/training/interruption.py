"""Ctrl-C and SIGTERM: a training ends where it can go on."""

import os
import signal
import threading

from keras_gflv2.replicas import process_position
from keras_gflv2.signals import SIGNALS, exit_on, stopped_by

# How long the processes of one training wait for each other once they have to end.
PATIENCE = 60.0


class Interruption:
    """Takes SIGINT and SIGTERM within a `with` block, for whoever asks at the next step.

    The first signal is kept in `signal`; a second one ends the block at once. Handlers of the
    user's own stay, and so does a signal that is ignored. Outside of the main thread nothing is
    taken, as Python has it.

    Of several processes the first saves and ends. The others go on with their steps until it is
    gone, so that none waits for a step that another has left; after a minute they end by force.

    Attributes:
        signal: number of the signal that came, None before.
    """

    def __init__(self):
        self.signal = None
        self._handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) in _DEFAULTS:
                    self._handlers[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind, error, traceback):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.signal is not None:
            raise stopped_by(number)
        self.signal = number
        index, count = process_position()
        if count > 1:
            threading.Thread(target=self._end_by_force, daemon=True).start()
        if index == 0:
            # Not by print: the signal may have come in the midst of one.
            name = signal.Signals(number).name
            text = f"\n{name}: the training ends after this step. Once more ends it at once.\n"
            os.write(2, text.encode())

    def _end_by_force(self):
        threading.Event().wait(PATIENCE)
        os._exit(128 + self.signal)


_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler, exit_on)
