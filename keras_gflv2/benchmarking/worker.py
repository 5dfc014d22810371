"""A process with one subject: a description on the command line, orders in, times out.

    python -m keras_gflv2.benchmarking.worker '{"subject": "module:function", "arguments": {...}}'

Orders are lines of JSON on the standard input: {"run": part, "times": n}; the input's end is the
order to stop. Answers are lines on the standard output, to which nothing else may write.
"""

import importlib
import json
import os
import resource
import sys
import time


def main():
    description = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print
    startup, last = {}, [time.perf_counter()]

    def lap(name):
        now = time.perf_counter()
        startup[name], last[0] = now - last[0], now

    module, function = description["subject"].split(":")
    subject = getattr(importlib.import_module(module), function)
    parts = subject(lap, **description["arguments"])
    print(json.dumps({"startup": startup}), file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        seconds = [_timed(parts[order["run"]]) for _ in range(order["times"])]
        print(json.dumps({"seconds": seconds, "peak_mb": peak_mb()}), file=answers)


def _timed(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def peak_mb():
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


if __name__ == "__main__":
    main()
