"""The folder of a run: its arguments, who may use it, and the models that it ends with."""

import argparse
import contextlib
import json
import shutil
import zipfile
from pathlib import Path

from keras_gflv2.cli.arguments import flag, write_json

# Not part of a run: they say how, not what.
TRANSIENT = (
    *("run", "command", "argv", "resume", "output", "traceback", "verbose", "dry_run"),
    *("version", "completion"),
    *("help", "when_interrupted", "changes"),
)
# What a run may go on with otherwise than it began. The data itself is compared when it is read.
MAY_CHANGE = {
    "data": "the images and boxes must be the same, wherever they are",
    "teacher": "its weights must be the same, wherever they are",
    "validation_data": "best.keras is still compared with the AP so far",
    "epochs": "the learning rate follows the plan for so many epochs from here on",
    "learning_rate": "it is the peak of the plan from here on",
    "checkpoint_minutes": "",
    "tensorboard": "",
    "log": "",
    "patience": "",
    "time_limit": "",
    "devices": "",
}
# What is left of a process that was killed as it wrote.
LEFTOVERS = (
    ".lock", ".probe", ".state.weights.h5", ".best.keras", ".model.keras", ".log.csv",
    ".curves.png", ".detections.png", ".arguments.json", ".experiments.json", ".preset",
    ".preset.old",
)  # fmt: skip


class RunFolder:
    """The folder that `train` writes to.

    Args:
        path: of the folder; made by `claim`.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.best = self.path / "best.keras"
        self.log = self.path / "log.csv"
        self.curves = self.path / "curves.png"

    # === Who may use it ===

    @contextlib.contextmanager
    def claim(self, resume):
        """Makes the folder if it is not there, and keeps other trainings out of it.

        Raises:
            ValueError: another training uses it; it is a file; or a run is in it that is not to be
                resumed.
        """
        from keras_gflv2.training.lock import locked

        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"--output {self.path} is a file, not a folder.")
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            files = {path.name for path in self.path.iterdir()} - set(LEFTOVERS)
            if files and not resume:
                raise ValueError(
                    f"--output {self.path} is not empty. Add --resume to continue the run in it, "
                    "or choose another folder."
                )
            yield

    # === What it began with ===

    def write_record(self, arguments, model, datasets=None):
        """Writes arguments.json: everything needed to repeat the run.

        Args:
            arguments: of the command line.
            model: the detector.
            datasets: {split: dataset or None}, whose images and boxes are noted.
        """
        import keras

        import keras_gflv2

        record = {
            "arguments": self.arguments_of(arguments),
            "class_names": model.class_names,
            "data": {
                split: _counts(dataset, model.class_names)
                for split, dataset in (datasets or {}).items()
                if dataset is not None
            },
            "versions": {
                "keras_gflv2": keras_gflv2.__version__,
                "keras": keras.__version__,
                "backend": keras.backend.backend(),
            },
        }
        write_json(self.path / "arguments.json", record)

    @staticmethod
    def arguments_of(arguments):
        """{name: value} of the command line's arguments that are part of the run."""
        return {k: v for k, v in vars(arguments).items() if k not in TRANSIENT}

    def saved_arguments(self, parser):
        """The arguments of the run as defaults for the parser of `train`.

        Raises:
            FileNotFoundError: no run began here.
            ValueError: arguments.json is damaged, or of a version with other arguments.
        """
        path = self.path / "arguments.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"There is no run to resume in {self.path}: {path} does not exist. Start it "
                "without --resume."
            )
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            saved = dict(record["arguments"])
        # A RecursionError too: thousands of brackets.
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path} is damaged: it should hold the arguments of the run "
                f"({type(error).__name__}: {error}). Restore it, or start a new run in another "
                "--output."
            ) from error
        actions = {a.dest: a for a in parser._actions if a.dest not in TRANSIENT}
        unknown = sorted(set(saved) - set(actions))
        if unknown:
            versions = record.get("versions")
            by = versions.get("keras_gflv2") if isinstance(versions, dict) else None
            raise ValueError(
                f"{path} has arguments that this version of keras_gflv2 does not know: "
                f"{', '.join(unknown)}. It was written by version {by or 'unknown'}: resume with "
                "that one, or start a new run in another --output."
            )
        for name, value in saved.items():
            if not _is_valid(actions[name], value):
                raise ValueError(
                    f"{path} is damaged: {flag(name)} cannot be {value!r}. Restore it, or start "
                    "a new run in another --output."
                )
        return saved

    def check_arguments(self, arguments, saved):
        """What of the arguments is not as when the run began, as lines to print.

        Raises:
            ValueError: it cannot change within a run.
        """
        changes = []
        for name, value in vars(arguments).items():
            if name in TRANSIENT:
                continue
            if name not in saved and (value is None or value is False):
                continue
            if name not in saved:
                changes.append(
                    f"{self.path / 'arguments.json'} is of a version without {flag(name)}: it is "
                    f"{value!r} from here on."
                )
                continue
            was, now = saved[name], json.loads(json.dumps(value))
            if was == now:
                continue
            if name not in MAY_CHANGE:
                raise ValueError(
                    f"{flag(name)} was {was!r} when {self.path} was started and is {now!r} now: "
                    "it cannot change with --resume. Leave it out to go on, or start a new run in "
                    "another --output."
                )
            meaning = MAY_CHANGE[name] and f" ({MAY_CHANGE[name]})"
            changes.append(f"{flag(name)} was {was!r} and is {now!r} from here on{meaning}.")
        return changes

    # === What it has so far ===

    def clear_leftovers(self):
        """Removes what a killed process had half written; also a best.keras that is no such file.

        The next best epoch takes its place, and preset/ is written anew when the run ends.
        """
        for name in LEFTOVERS:
            path = self.path / name
            if name == ".lock":  # ours
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        if self.best.is_file() and not _is_whole_archive(self.best):
            print(
                f"{self.best} is damaged and was removed; the best epoch from here on replaces it."
            )
            self.best.unlink()

    def ap_history(self, first_epoch):
        """[(epoch, val_AP)] of the measured epochs before an epoch."""
        from keras_gflv2.training.progress import read_log

        rows = [(int(row["epoch"]), _number(row.get("val_AP"))) for row in read_log(self.log)[1]]
        return [(e, ap) for e, ap in rows if e < first_epoch and ap is not None and ap >= 0]

    def best_ap(self, first_epoch):
        """The best val_AP before an epoch, of the epoch in best.keras; None where none is."""
        if not self.best.is_file():
            return None
        return max((ap for _, ap in self.ap_history(first_epoch)), default=None)

    # === What it ends with ===

    def write_models(self, model, val_ds):
        """Saves the last model, and as a preset the best one; prints what is where."""
        import keras

        from keras_gflv2.files import folder_written_whole, written_whole
        from keras_gflv2.visualization import draw_validation

        with written_whole(self.path / "model.keras") as path:
            model.save(path)
        has_best = self.best.is_file()
        if has_best:
            model = keras.saving.load_model(self.best)
        with folder_written_whole(self.path / "preset") as path:
            model.save_to_preset(path)
        if val_ds is not None:
            picture = draw_validation(model, val_ds)
            with written_whole(self.path / "detections.png") as path:
                picture.save(path, format="PNG")
        kind = "best epoch's" if has_best else "last epoch's"
        best = "best.keras, " if has_best else ""
        drawn = "" if val_ds is None else "detections.png, "
        print(
            f"Wrote model.keras (last epoch), {best}{drawn}preset/ (the {kind} weights), log.csv, "
            f"curves.png, arguments.json and the state of the training to {self.path}"
        )

    def small_files(self):
        """Pictures, numbers and arguments of a run that has ended."""
        names = ("arguments.json", "log.csv", "curves.png", "detections.png")
        return [self.path / name for name in names if (self.path / name).is_file()]


def _counts(dataset, class_names):
    """Images and boxes of a dataset, None where a stream does not know them."""
    boxes = getattr(dataset, "box_counts", None)
    return {
        "images": getattr(dataset, "num_images", None),
        "boxes": None if boxes is None else dict(zip(class_names, boxes)),
    }


def _is_valid(action, value):
    """Whether a value from JSON could have come from the command line."""
    if value is None:
        return action.default is None
    if action.nargs == 0:  # a flag
        return isinstance(value, bool)
    if action.nargs is not None:
        is_counted = isinstance(action.nargs, int)
        if not isinstance(value, list) or (is_counted and len(value) != action.nargs):
            return False
        return all(_is_valid_item(action, item) for item in value)
    return _is_valid_item(action, value)


def _is_valid_item(action, value):
    if action.choices is not None and value not in tuple(action.choices):
        return False
    if action.type is None:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return False
    try:
        # A number must be written as one, a text as a text.
        return isinstance(action.type(str(value)), str) == isinstance(value, str)
    except (ValueError, argparse.ArgumentTypeError):
        return False


def _is_whole_archive(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile, zlib and struct have one each
        return False


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
