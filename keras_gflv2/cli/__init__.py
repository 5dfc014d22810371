"""The command line: `keras-gflv2 demo | data | train | evaluate | calibrate | predict | export |
benchmark | figures | convert | presets`.

Each subcommand is a module with `NAME`, `HELP` (one line), `add_arguments(parser)` and
`run(arguments)`; a new one is a module in `COMMANDS`. Functions that run import what they need
themselves, so that `--help` is quick and errors in arguments come at once.
"""

import argparse
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
    train,
)
from keras_gflv2.cli.errors import USER_ERRORS, user_message
from keras_gflv2.cli.run_folder import RunFolder

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
)

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141  # as shells count SIGPIPE


def main(argv=None):
    """Runs one subcommand.

    Args:
        argv: list of arguments without the program's name; those of the process by default.

    Returns:
        Exit code: 0; 1 where `data` found what would spoil a training; 2 for an error of the user
        (one line on stderr); 130 when interrupted, 143 when terminated; 141 when nobody reads the
        output any more.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        code = _main(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes once more when it ends, and would say that it cannot.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _main(argv):
    try:
        arguments = parse_arguments(argv)
    except SystemExit as stop:  # argparse's own errors (2) and --help (0)
        return stop.code
    except USER_ERRORS as error:
        return _report(user_message(error))
    arguments.argv = argv
    try:
        return arguments.run(arguments) or 0
    except KeyboardInterrupt:
        print("\ninterrupted" + getattr(arguments, "when_interrupted", ""), file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as stop:  # SIGTERM, or the processes that were started
        if hasattr(arguments, "when_interrupted"):
            print("\nterminated" + arguments.when_interrupted, file=sys.stderr)
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
    """The namespace of one subcommand; with --resume, the saved arguments are its defaults."""
    parser, subparsers = build_parser()
    arguments = parser.parse_args(argv)
    if getattr(arguments, "resume", False):
        folder, subparser = RunFolder(arguments.output), subparsers[arguments.command]
        saved = folder.saved_arguments(subparser)
        subparser.set_defaults(**saved)
        arguments = parser.parse_args(argv)
        arguments.changes = folder.check_arguments(arguments, saved)
    return arguments


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds "(default: ...)" to every option which has one."""

    def _get_help_string(self, action):
        if action.default in (None, False) or action.default is argparse.SUPPRESS:
            return action.help
        return super()._get_help_string(action)


def build_parser():
    """The argument parser, and those of the subcommands by name."""
    parser = argparse.ArgumentParser(
        prog="keras-gflv2",
        description="GFLV2 and other dense object detectors for Keras 3. The backend is chosen by "
        "the environment variable KERAS_BACKEND: tensorflow, jax or torch.",
    )
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    subparsers = {}
    for command in COMMANDS:
        subparser = choices.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.HELP,
            formatter_class=_HelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.add_argument(
            "--traceback", action="store_true", help="show where in the code an error came from"
        )
        subparser.set_defaults(run=command.run)
        subparsers[command.NAME] = subparser
    return parser, subparsers
