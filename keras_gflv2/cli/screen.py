"""What of the libraries' messages reaches the terminal of a command.

TensorFlow, XLA and CUDA write about their start-up to file descriptor 2, some of it whatever
TF_CPP_MIN_LOG_LEVEL says. Their lines pass through a process that leaves those out which tell a
user nothing; errors stay, also the last words of a process that dies. What Python writes to
`sys.stderr` does not pass through it: progress bars and tracebacks are as ever.
"""

import contextlib
import logging
import os
import re
import signal
import sys
import time
import warnings

# Informational lines and warnings of absl ("I0000 00:00:1795.12 1 port.cc:1] ...") and of older
# TensorFlow ("2026-01-31 10:00:00.1: I tensorflow/..."); and errors that only mean "no GPU", "no
# AVX-512" or "an attribute that I do not need".
CHATTER = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:\d+\.\d+ |"
    rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] |"
    rb"WARNING: All log messages before absl::InitializeLog|"
    rb"To enable the following instructions: |"
    rb".*(failed call to cuInit|Unable to register cu\w+ (factory|plugin)|"
    rb"oneDNN supports DT_INT64|NodeDef mentions attribute)"
)
LINE_END = re.compile(rb"(?<=[\r\n])")
# How long the last lines may take when the command ends.
PATIENCE = 2.0


@contextlib.contextmanager
def quiet_libraries():
    """Within it libraries are silent about themselves. For a process that has none of them yet."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # all there is where processes cannot fork
    for name in ("tensorflow", "absl", None):  # ONNX Runtime writes to the root logger
        logging.getLogger(name).setLevel(logging.ERROR)
    with _short_warnings(), _without_chatter():
        yield


@contextlib.contextmanager
def _short_warnings():
    """Warnings are a line each, and those for programmers are not shown."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            warnings.showwarning = _show_warning
        yield


def _show_warning(message, category, filename, lineno, file=None, line=None):
    text = " ".join(str(message).split())
    print(f"warning: {text}", file=file or sys.stderr)


@contextlib.contextmanager
def _without_chatter():
    """Has what is written to file descriptor 2 pass through a process of its own."""
    # In a thread the filter could wait for the interpreter while a library waits for the filter.
    if not hasattr(os, "fork"):
        yield
        return
    sys.stderr.flush()
    terminal, (outlet, inlet) = os.dup(2), os.pipe()
    child = os.fork()
    if not child:
        _filter(outlet, inlet, terminal)
    os.close(outlet)
    os.dup2(inlet, 2)
    os.close(inlet)
    before = sys.stderr
    sys.stderr = os.fdopen(os.dup(terminal), "w", 1, before.encoding, before.errors)
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        os.dup2(terminal, 2)
        os.close(terminal)
        _wait_for(child)


def _filter(outlet, inlet, terminal):
    """Copies lines to the terminal until nobody writes any more; does not return."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it ends with the command
        for descriptor in (0, 1, 2, inlet):
            os.close(descriptor)
        rest = b""
        while block := os.read(outlet, 1 << 16):
            *lines, rest = LINE_END.split(rest + block)
            os.write(terminal, b"".join(line for line in lines if not CHATTER.match(line)))
        if not CHATTER.match(rest):
            os.write(terminal, rest)
    finally:
        os._exit(0)


def _wait_for(child):
    """Until the last lines are out; a process that was left behind may still hold the pipe."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and os.waitpid(child, os.WNOHANG)[0] == 0:
        time.sleep(0.005)
