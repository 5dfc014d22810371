"""SIGINT and SIGTERM as exceptions, without Keras: whatever is open is closed as they pass."""

import contextlib
import signal
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TIME_IS_UP = 0  # in place of the number of a signal


class TimeIsUp(Exception):
    """A training was stopped by its time limit, with its state saved."""


def stopped_by(number):
    """The exception for a signal: KeyboardInterrupt, or SystemExit with the code of shells; or
    `TimeIsUp`."""
    if number == TIME_IS_UP:
        return TimeIsUp()
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)


def exit_on(number, frame):
    """Handler of a signal that raises its exception."""
    raise stopped_by(number)


@contextlib.contextmanager
def exits_on_sigterm():
    """Within it SIGTERM raises SystemExit(143), so that whatever is open is closed."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, exit_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
