"""The command line of `examples/reproduce.py`: trains what is missing, and writes the tables."""

import argparse
import os
import subprocess
import sys

from keras_gflv2.cli.arguments import positive_int
from keras_gflv2.reproduction.results import ResultsFolder, merge
from keras_gflv2.reproduction.rows import ROWS
from keras_gflv2.reproduction.setups import choose
from keras_gflv2.reproduction.tables import TABLES, rows_of

DESCRIPTION = """Trains and evaluates the detectors of the paper's tables.

Each detector (a row) is trained once for all tables that have it, and its results are appended to
results.csv in --output the moment they are there. The same command again goes on where the last one
stopped. Several commands with one --output, on one machine or several, share the rows; folders of
machines without a common disk are put together by `merge`."""

EXAMPLES = """examples:
  reproduce.py all --small --output small                two CPU cores, generated pictures
  reproduce.py all --small --data voc:BCCD --output small_bccd --seeds 0 1 2 --jobs 2
  reproduce.py 4 --data coco:COCO --recipe 1x --devices 8 --output table4
  reproduce.py all --data coco:COCO --rows fcos atss --output machine2
  reproduce.py merge machine1 machine2 --output all
  reproduce.py report --output all
"""
STEPS = ("train", "speed", "report")
# With --small: more seeds for the claims of the paper that matter most.
SMALL_SEEDS, CLAIMED, CLAIMED_SEEDS = (0, 1), (5, 6), (0, 1, 2)


def parser():
    """The parser of the command's arguments."""
    found = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "what",
        choices=("all", *map(str, TABLES), "report", "merge"),
        metavar="TABLE",
        help="a table of the paper: 1 to 6, 8, or all of them; report writes the tables of what "
        "--output has; merge adds the results of other folders to it",
    )
    found.add_argument("folders", nargs="*", metavar="FOLDER", help="of merge: where results are")
    found.add_argument("--output", default="reproduction", metavar="FOLDER", help="for results")

    data = found.add_argument_group("data and schedule, the same for all rows")
    data.add_argument(
        "--data",
        help="coco:FOLDER (as COCO 2017 is unpacked), voc:FOLDER (splits train and val), shapes "
        "(generated pictures, the default of --small), or one split of any data, as `keras-gflv2 "
        "train --data` takes it",
    )
    data.add_argument("--validation-data", help="images to evaluate on, where --data is one split")
    data.add_argument("--recipe", help="1x if not given, as in the paper; scratch with --small")
    data.add_argument("--epochs", type=positive_int, help="instead of the recipe's")
    data.add_argument("--batch-size", type=positive_int, help="16 if not given, 8 with --small")
    data.add_argument(
        "--small",
        action="store_true",
        help="minutes per row on a CPU: a narrow ResNet-18 and small images, trained from nothing",
    )

    work = found.add_argument_group("which part of the work")
    work.add_argument("--rows", nargs="+", choices=ROWS, metavar="ROW", help="of the tables' rows")
    work.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        help="0 if not given; with --small 0 1, and 2 for the rows of Tables 5 and 6",
    )
    work.add_argument(
        "--only", choices=STEPS, help="train the rows, or measure their speed, or write the tables"
    )
    work.add_argument(
        "--jobs",
        type=positive_int,
        default=1,
        help="processes that train rows side by side, each with its part of the CPU's cores",
    )
    work.add_argument(
        "--devices", type=positive_int, help="GPUs that train a row together (TensorFlow, JAX)"
    )
    work.add_argument("--verbose", type=int, choices=(0, 1, 2), default=2)
    return found


def main(argv=None):
    """Runs the command; returns its exit code."""
    from keras_gflv2.cli.errors import USER_ERRORS, user_message

    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = parser().parse_args(argv)
    try:
        return _run(arguments, argv)
    except USER_ERRORS as error:
        print(user_message(error), file=sys.stderr)
        return 2


def _run(arguments, argv):
    if arguments.what == "merge":
        added = merge(arguments.folders, arguments.output)
        print(f"Added {added} lines of {len(arguments.folders)} folders to {arguments.output}.")
    if arguments.what in ("merge", "report"):
        return _report(ResultsFolder(arguments.output))
    tables = list(TABLES) if arguments.what == "all" else [int(arguments.what)]
    rows = [row for row in rows_of(tables) if not arguments.rows or row in arguments.rows]
    if not rows:
        raise ValueError(f"--rows: table {arguments.what} has {', '.join(rows_of(tables))}.")
    folder = ResultsFolder(arguments.output)
    folder.use(_setup(arguments))
    steps = [arguments.only] if arguments.only else STEPS
    if "train" in steps:
        if arguments.jobs > 1:
            code = _train_side_by_side(arguments.jobs, argv)
            if code:
                return code
        else:
            _train(folder, rows, arguments)
    if "speed" in steps:
        _measure(folder, [row for row in rows if row in _rows_with_speed()], arguments)
    return _report(folder) if "report" in steps else 0


def _setup(arguments):
    data = arguments.data or ("shapes" if arguments.small else None)
    if data is None:
        raise ValueError("--data is missing: coco:FOLDER, for example, or --small without it.")
    setup = choose(data, arguments.validation_data, arguments.small)
    return setup.replace(
        recipe=arguments.recipe, epochs=arguments.epochs, batch_size=arguments.batch_size
    )


def _trainings(rows, arguments):
    """(row, seed) of all trainings: first all rows of a seed."""
    seeds = dict.fromkeys(rows, arguments.seeds or (SMALL_SEEDS if arguments.small else (0,)))
    if arguments.small and not arguments.seeds:
        seeds |= {row: CLAIMED_SEEDS for row in rows_of(CLAIMED) if row in seeds}
    pairs = [(row, seed) for row in rows for seed in seeds[row]]
    return sorted(pairs, key=lambda pair: pair[1])


def _train(folder, rows, arguments):
    """Trains what nobody has trained or trains, one after another: first all rows of a seed."""
    import keras

    from keras_gflv2.cli.devices import launches_processes, use_devices
    from keras_gflv2.reproduction.train import forget, train

    if launches_processes(arguments.devices):
        raise ValueError(
            "--devices: on PyTorch a row is trained by one device. Start a command on each, with "
            "CUDA_VISIBLE_DEVICES and one --output: they share the rows."
        )
    scope, _ = use_devices(arguments.devices)
    for row, seed in _trainings(rows, arguments):
        with folder.claim(row, seed) as is_ours:
            if not is_ours:
                continue
            print(f"Training {row}, seed {seed}.", flush=True)
            state = folder.state_of(row, seed)
            result = train(
                ROWS[row], seed, folder.setup, state, scope=scope, verbose=arguments.verbose
            )
            folder.results.add([{"row": row, "seed": seed, **result}])
            forget(state)
            print(
                f"{row}, seed {seed}: AP {result['AP']:.4f}, correlation "
                f"{result['correlation']:.4f}, {result['seconds']} s",
                flush=True,
            )
        keras.backend.clear_session()


def _train_side_by_side(jobs, argv):
    """Processes that do the training of this command; returns the first exit code that is not 0."""
    threads = str(max((os.cpu_count() or 1) // jobs, 1))
    limits = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    environment = {**dict.fromkeys(limits, threads), **os.environ}
    command = [sys.executable, "-m", "keras_gflv2.reproduction", *argv]
    command += ["--jobs", "1", "--only", "train"]
    processes = [subprocess.Popen(command, env=environment) for _ in range(jobs)]
    try:
        codes = [process.wait() for process in processes]
    except BaseException:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        raise
    return next((code for code in codes if code), 0)


def _rows_with_speed():
    return {row for table in TABLES.values() if table.has_speed for row in table.rows}


def _measure(folder, rows, arguments):
    from keras_gflv2.reproduction.speed import measure

    for row in rows:
        if not folder.speed.has(row=row):
            print(f"Measuring {row}.", flush=True)
            folder.speed.add([{"row": row, **measure(row, folder.setup)}])


def _report(folder):
    from keras_gflv2.reproduction.report import write_report

    print(f"Wrote {write_report(folder)}.")
    return 0
