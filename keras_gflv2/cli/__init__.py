"""The command line: `keras-gflv2 demo | data | train | evaluate | calibrate | predict | export |
benchmark | figures | convert | presets | push`.

Each subcommand is a module with `NAME`, `HELP` (one line), `add_arguments(parser)` and
`run(arguments)`; a new one is a module in `COMMANDS`. Functions that run import what they need
themselves, so that `--help` is quick and errors in arguments come at once.
"""

import contextlib
import os
import sys
import traceback

from keras_gflv2.cli import (
    benchmark,
    calibrate,
    convert,
    data,
    demo,
    evaluate,
    export,
    figures,
    predict,
    presets,
    push,
    train,
)
from keras_gflv2.cli.errors import USER_ERRORS, user_message
from keras_gflv2.cli.parser import EXIT_USER_ERROR, Parser, add_program_options
from keras_gflv2.cli.run_folder import RunFolder
from keras_gflv2.cli.screen import quiet_libraries
from keras_gflv2.cli.sources import check_data, check_model
from keras_gflv2.signals import exits_on_sigterm

COMMANDS = (
    demo,
    data,
    train,
    evaluate,
    calibrate,
    predict,
    export,
    benchmark,
    figures,
    convert,
    presets,
    push,
)

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
EXIT_BROKEN_PIPE = 141  # as shells count SIGPIPE


def main(argv=None):
    """Runs one subcommand.

    Args:
        argv: list of arguments without the program's name. By default those of the process, which
            is the command's own then: libraries are kept from telling about themselves.

    Returns:
        Exit code: 0; 1 where `data` found what would spoil a training; 2 for an error of the user
        (one line on stderr); 130 when interrupted, 143 when terminated; 141 when nobody reads the
        output any more.
    """
    owns_process = argv is None
    argv = sys.argv[1:] if owns_process else list(argv)
    try:
        code = _main(argv, owns_process)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes once more when it ends, and would say that it cannot.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _main(argv, owns_process):
    try:
        arguments = parse_arguments(argv)
    except SystemExit as stop:  # argparse's own errors (2) and --help (0)
        return stop.code
    except USER_ERRORS as error:
        return _report(user_message(error))
    arguments.argv = argv
    is_quiet = owns_process and getattr(arguments, "verbose", 1) < 2
    with exits_on_sigterm(), quiet_libraries() if is_quiet else contextlib.nullcontext():
        return _run(arguments)


def _run(arguments):
    """Runs the command; returns its exit code. Errors that are bugs pass."""
    try:
        for name in ("model", "teacher"):
            check_model(getattr(arguments, name, None))
        for name in ("data", "validation_data", "calibration"):
            check_data(getattr(arguments, name, None))
        return arguments.run(arguments) or 0
    except KeyboardInterrupt:
        print("\ninterrupted" + getattr(arguments, "when_interrupted", ""), file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:  # SIGTERM, or the processes that were started
        if stop.code == EXIT_TERMINATED or hasattr(arguments, "when_interrupted"):
            print("\nterminated" + getattr(arguments, "when_interrupted", ""), file=sys.stderr)
        return stop.code
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_output_closed():
            raise
        message = user_message(error)
        if message is None:
            raise
        if arguments.traceback:
            traceback.print_exc()
        return _report(message)


def _is_output_closed():
    """Whether it is the reader of our output who has gone, as `head` does; not a server."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return True
    return False


def _report(message):
    print(f"error: {message}", file=sys.stderr)
    return EXIT_USER_ERROR


def parse_arguments(argv):
    """The namespace of one subcommand; of train --resume, saved arguments are the defaults."""
    parser, subparsers = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.command == train.NAME and arguments.resume:
        folder, subparser = RunFolder(arguments.output), subparsers[arguments.command]
        saved = folder.saved_arguments(subparser)
        subparser.set_defaults(**saved)
        arguments = parser.parse_args(argv)
        arguments.changes = folder.check_arguments(arguments, saved)
    return arguments


def build_parser():
    """The argument parser, and those of the subcommands by name."""
    parser = Parser(
        prog="keras-gflv2",
        description="GFLV2 and other dense object detectors for Keras 3. The backend is chosen by "
        "the environment variable KERAS_BACKEND: tensorflow, jax or torch.",
    )
    add_program_options(parser)
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparsers = {}
    for command in COMMANDS:
        subparser = choices.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
        )
        command.add_arguments(subparser)
        subparser.add_argument(
            "--traceback", action="store_true", help="show where in the code an error came from"
        )
        subparser.set_defaults(run=command.run)
        subparsers[command.NAME] = subparser
    return parser, subparsers
