"""Results on disk: one CSV line per trained detector, written the moment it is there."""

import contextlib
import csv
from pathlib import Path

import filelock

from keras_gflv2.files import written_whole
from keras_gflv2.reproduction.setups import Setup

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "correlation", "correlation_quality")
RESULTS_FIELDS = (
    *("row", "seed", *METRICS, "positives", "seconds", "steps", "parameters"),
    *("backend", "keras", "version", "cpu", "threads", "date"),
)
SPEED_FIELDS = (
    *("row", "images_per_second", "inference_ms", "inference_ratio", "training_ms"),
    *("training_ratio", "turns", "backend", "keras", "version", "cpu", "threads", "date"),
)
SETUP_FILE = "setup.json"


class CSVFile:
    """A CSV file of dictionaries to which several processes can add.

    Args:
        path: of the file.
        fields: names of the columns.
        key: names of the columns that tell lines apart.
    """

    def __init__(self, path, fields, key):
        self.path = Path(path)
        self.fields = fields
        self.key = key

    def read(self):
        """Its lines, dictionaries of strings; none if it is not there."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def has(self, **key):
        """Whether there is a line with these values."""
        wanted = self._key({name: str(value) for name, value in key.items()})
        return any(self._key(line) == wanted for line in self.read())

    def add(self, lines):
        """Adds lines whose keys are not there yet, and returns how many those are.

        The file changes from one whole state to the next, whatever ends the process.
        """
        with filelock.FileLock(self.path.with_name(f".{self.path.name}.lock")):
            known = self.read()
            keys = {self._key(line) for line in known}
            new = []
            for line in lines:
                line = {name: str(line.get(name, "")) for name in self.fields}
                if self._key(line) not in keys:
                    keys.add(self._key(line))
                    new.append(line)
            with (
                written_whole(self.path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                writer = csv.DictWriter(file, self.fields, lineterminator="\n")
                writer.writeheader()
                writer.writerows(known + new)
        return len(new)

    def _key(self, line):
        return tuple(line[name] for name in self.key)


class ResultsFolder:
    """The folder of a reproduction: its setup, `results.csv`, `speed.csv` and the states of
    detectors in training.

    Args:
        path: of the folder, made if it is not there.

    Attributes:
        results: `CSVFile` of trained detectors.
        speed: `CSVFile` of times.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.results = CSVFile(self.path / "results.csv", RESULTS_FIELDS, ("row", "seed"))
        self.speed = CSVFile(self.path / "speed.csv", SPEED_FIELDS, ("row",))

    @property
    def setup(self):
        """The `Setup` of its results, None before there are any."""
        file = self.path / SETUP_FILE
        return Setup.from_json(file.read_text(encoding="utf-8")) if file.exists() else None

    def use(self, setup):
        """Notes what its results are of.

        Raises:
            ValueError: it has results of another setup.
        """
        if self.setup is None:
            with written_whole(self.path / SETUP_FILE) as temporary:
                temporary.write_text(setup.to_json(), encoding="utf-8")
        elif not self.setup.equals(setup):
            raise ValueError(
                f"--output {self.path} has results of another setup, see {SETUP_FILE} in it: "
                "results of different sizes or data cannot be compared. Choose another folder."
            )

    def state_of(self, row, seed):
        """Folder of the state of a detector in training."""
        return self.path / "training" / f"{row}-{seed}"

    @contextlib.contextmanager
    def claim(self, row, seed):
        """Gives True, and keeps others off this row and seed meanwhile; or False.

        A process that ends, however that is, gives its claims back.
        """
        folder = self.path / "training"
        folder.mkdir(exist_ok=True)
        lock = filelock.FileLock(folder / f"{row}-{seed}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield not self.results.has(row=row, seed=seed)
        finally:
            lock.release()


def merge(sources, output):
    """Puts the results of several folders together, as those of several machines.

    Of a row and seed that several have, the first one's are kept.

    Args:
        sources: paths of folders with one setup.
        output: path of the folder to write to; it may have results itself.

    Returns:
        How many lines were added.

    Raises:
        ValueError: a folder is not one of results, or has another setup.
    """
    output = ResultsFolder(output)
    added = 0
    for path in sources:
        if not (Path(path) / SETUP_FILE).exists():
            raise ValueError(f"{path} has no {SETUP_FILE}: it is no folder of results.")
        source = ResultsFolder(path)
        output.use(source.setup)
        added += output.results.add(source.results.read())
        added += output.speed.add(source.speed.read())
    return added
