"""Progress bars of commands, on stderr: how much is done, how fast, how long it will take."""

import shutil
import sys

MAX_COLUMNS = 100
SECONDS_BETWEEN_LINES = 30.0  # in a log file


def progress(items, verbose, what, total=None, unit="image"):
    """`items`, with a bar while they are taken.

    Args:
        items: an iterable; None for a bar that is moved by its `update`.
        verbose: 0 for none.
        what: what is done, in a word or two.
        total: how many items there are, if they have no length.
        unit: of the items.

    Returns:
        A `tqdm`.
    """
    from tqdm import tqdm

    interval = 0.1 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
    return tqdm(
        items,
        desc=what,
        total=total,
        unit=f" {unit}s",
        disable=not verbose,
        file=sys.stderr,
        mininterval=interval,
        maxinterval=max(interval, 10.0),
        # tqdm would write nothing in terminals that do not tell their size.
        ncols=min(shutil.get_terminal_size().columns, MAX_COLUMNS),
        nrows=20,
    )
