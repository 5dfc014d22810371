"""Workers that take turns: A, B, A, B, so that a machine that slows down slows all of them."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# How long a turn is to be, if one call is shorter, and the most calls of it.
TURN_SECONDS, MOST_CALLS = 0.3, 20
# Threads of the one before spin for a while before they sleep.
PAUSE_SECONDS = 0.2


class WorkerError(RuntimeError):
    """A worker ended before its answer; the message is the end of what it said."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a worker is started with.

    Attributes:
        name: in the table.
        function: "module:function", see `subjects`.
        arguments: of the function.
        parts: which of its parts are timed, in turn with other subjects that have them.
        environment: variables of the process, such as KERAS_BACKEND.
    """

    name: str
    function: str
    arguments: dict
    parts: tuple
    environment: dict = dataclasses.field(default_factory=dict)


class Worker:
    """A subject in a process of its own, ready to run.

    Attributes:
        subject: the `Subject`.
        startup: {"import": seconds, "build": seconds}.
        peak_mb: memory of the process so far.
    """

    def __init__(self, subject):
        self.subject = subject
        self.peak_mb = None
        self._said = tempfile.TemporaryFile("w+")
        description = {"subject": subject.function, "arguments": subject.arguments}
        command = [sys.executable, "-m", "keras_gflv2.benchmarking.worker", json.dumps(description)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, **subject.environment},
        )
        self.startup = self._answer()["startup"]

    def run(self, part, times=1):
        """Seconds of each of some calls of a part."""
        with contextlib.suppress(BrokenPipeError):  # it ended: there is no answer
            print(json.dumps({"run": part, "times": times}), file=self._process.stdin, flush=True)
        answer = self._answer()
        self.peak_mb = answer["peak_mb"]
        return answer["seconds"]

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._said.close()

    def _answer(self):
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._said.seek(0)
        end = "\n".join(self._said.read().strip().splitlines()[-3:])
        raise WorkerError(f"{self.subject.name} ended with {code}:\n{end}")


def measure_in_turn(subjects, repeat, say=print, count=iter):
    """Times of the parts of several subjects, and what it takes to start them.

    The processes are started one after another. Each runs its first part before the next one is
    started: that is when start-up and memory are measured. Then all take turns with each part.

    Args:
        subjects: list of `Subject`.
        repeat: number of turns that each has with a part.
        say: function that is told what goes on.
        count: function that is given the turns of a part, and gives them one after another.

    Returns:
        Tuple of {(subject's name, part): list of seconds} and {(subject's name, first part):
        {"import_seconds", "build_seconds", "first_seconds", "peak_mb"}}. A subject whose process
        fails is left out, and the reason said.
    """
    times, starts = {}, {}
    with contextlib.ExitStack() as stack:
        workers = []
        for subject in subjects:
            with _told(say):
                worker = Worker(subject)
                stack.callback(worker.close)
                starts[subject.name, subject.parts[0]] = _start(worker)
                workers.append(worker)
        for part in dict.fromkeys(part for subject in subjects for part in subject.parts):
            _take_turns(workers, part, repeat, times, say, count)
    return times, starts


def _start(worker):
    """Start-up and memory of a worker that has run nothing yet."""
    (first,) = worker.run(worker.subject.parts[0])
    worker.run(worker.subject.parts[0], 2)
    seconds = {f"{name}_seconds": value for name, value in worker.startup.items()}
    return {**seconds, "first_seconds": first, "peak_mb": worker.peak_mb}


def _take_turns(workers, part, repeat, times, say, count_turns):
    """Adds the times of a part; takes workers that fail out of the list."""
    calls = {}
    for worker in list(workers):
        if part not in worker.subject.parts:
            continue
        calls[worker] = 0
        with _told(say):
            worker.run(part)  # compiles
            warm = min(worker.run(part, 2))
            calls[worker] = max(1, min(MOST_CALLS, round(TURN_SECONDS / max(warm, 1e-4))))
        if not calls[worker]:
            workers.remove(worker)
            del calls[worker]
    for _ in count_turns(range(repeat)):
        for worker, count in calls.items():
            time.sleep(PAUSE_SECONDS)
            # The first of several finds the caches full of another's data.
            seconds = worker.run(part, count + 1 if count > 1 else 1)
            found = times.setdefault((worker.subject.name, part), [])
            found += seconds[1:] if count > 1 else seconds
    for worker in calls:
        median = statistics.median(times[worker.subject.name, part])
        say(f"{worker.subject.name}, {part}: {1000 * median:.4g} ms")


@contextlib.contextmanager
def _told(say):
    """Says that a worker failed, and goes on."""
    try:
        yield
    except WorkerError as error:
        say(str(error))
