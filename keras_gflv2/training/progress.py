"""How a training goes: numbers in the logs, and their curves as a picture."""

import csv
import datetime
import time
from pathlib import Path

import keras

from keras_gflv2.annotations import PathLike, Verbose
from keras_gflv2.files import written_whole


class Progress(keras.callbacks.Callback):
    """Adds "learning_rate", "images_per_second" and "seconds" to the logs of every epoch.

    Put it first, so that the epoch's validation does not count as training.

    Args:
        batch_size: images a step.
        verbose: 1 to print when the training will be over.
    """

    def __init__(self, batch_size: int, verbose: Verbose = 1):
        super().__init__()
        self.batch_size = batch_size
        self.verbose = verbose

    def on_epoch_begin(self, epoch, logs=None):
        self._began, self._steps, self._first_done = time.monotonic(), 0, None

    def on_train_batch_end(self, batch, logs=None):
        self._steps = batch + 1
        if self._first_done is None:  # which had to be compiled
            self._first_done = (time.monotonic(), self._steps)

    def on_epoch_end(self, epoch, logs=None):
        now = time.monotonic()
        since, before = self._first_done or (self._began, 0)
        steps = self._steps - before
        if not steps:
            since, steps = self._began, self._steps
        if logs is not None:
            logs["learning_rate"] = _learning_rate(self.model.optimizer)
            logs["images_per_second"] = steps * self.batch_size / max(now - since, 1e-9)
            logs["seconds"] = now - self._began
        left = (self.params.get("epochs", epoch + 1) - epoch - 1) * (now - self._began)
        if self.verbose and left > 0:
            rate = steps * self.batch_size / max(now - since, 1e-9)
            print(
                f" epoch {epoch + 1}/{self.params['epochs']}: {rate:.1f} images/s, "
                f"{datetime.timedelta(seconds=round(left))} of training left"
            )


def _learning_rate(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


class EpochLog(keras.callbacks.Callback):
    """A row in a CSV file for every epoch; as `keras.callbacks.CSVLogger`, for trainings that end.

    The file is written anew after each epoch, whole or not at all, and not before: a start that
    fails changes nothing in it. Rows of epochs that are done again, and of those after them, give
    way; a resumed training may have other columns.

    Args:
        log: the file.
    """

    def __init__(self, log: PathLike):
        super().__init__()
        self.log = Path(log)

    def on_epoch_end(self, epoch, logs=None):
        names, rows = read_log(self.log)
        rows = [row for row in rows if int(row["epoch"]) < epoch]
        row = {"epoch": epoch, **{name: logs[name] for name in sorted(logs or {})}}
        names = ["epoch", *sorted({*names, *row} - {"epoch"})]
        with written_whole(self.log) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, restval="NA")
            writer.writeheader()
            writer.writerows([*rows, row])


def read_log(log):
    """(columns, rows) of a log.csv, dictionaries of strings; a row that was cut short is none."""
    if not Path(log).is_file():
        return [], []
    with Path(log).open(newline="", encoding="utf-8", errors="replace") as file:
        lines = csv.DictReader(file)
        rows = [r for r in lines if (r.get("epoch") or "").isdigit() and None not in r.values()]
        names = [name for name in lines.fieldnames or [] if name]
    return names, [{name: row[name] for name in names} for row in rows]


class Curves(keras.callbacks.Callback):
    """Draws the columns of an `EpochLog`'s file after every epoch. Put it after that callback.

    Args:
        log: the file.
        picture: the PNG to write.
    """

    def __init__(self, log: PathLike, picture: PathLike):
        super().__init__()
        self.log, self.picture = Path(log), Path(picture)

    def on_epoch_end(self, epoch, logs=None):
        draw_curves(self.log, self.picture)


def draw_curves(log, picture):
    """Draws losses, AP and learning rate of a log.csv over the epochs.

    Args:
        log: file with the columns "epoch" and any of "loss", "*_loss", "val_AP*", "learning_rate".
        picture: the PNG to write.
    """
    from matplotlib.figure import Figure

    names, rows = read_log(log)
    panels = {
        "loss": [n for n in names if n.endswith("loss")],
        "AP": [n for n in names if n in ("val_AP", "val_AP50", "val_AP75")],
        "learning rate": [n for n in names if n == "learning_rate"],
    }
    panels = {title: columns for title, columns in panels.items() if columns}
    if not panels:
        return
    figure = Figure(figsize=(5 * len(panels), 3.5), layout="constrained")
    for axes, (title, columns) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items()
    ):
        for name in columns:
            # -1: an epoch that was not measured.
            points = [(int(r["epoch"]) + 1, _number(r[name])) for r in rows]
            points = [(x, y) for x, y in points if y is not None and y != -1]
            axes.plot(*zip(*points, strict=True) if points else ([], []), label=name, marker=".")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.legend(fontsize="small")
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
