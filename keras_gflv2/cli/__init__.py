"""The command line: `keras-gflv2 demo | train | evaluate | predict | export | convert |
presets`.

Each subcommand is a module with `NAME`, `HELP` (one line), `add_arguments(parser)` and
`run(arguments)`; a new one is a module in `COMMANDS`. Functions that run import what they need
themselves, so that `--help` is quick and errors in arguments come at once.
"""

import argparse
import re
import sys
import traceback

from keras_gflv2.cli import convert, demo, evaluate, export, predict, presets, train

COMMANDS = (demo, train, evaluate, predict, export, convert, presets)

# FileNotFoundError is an OSError; a FloatingPointError is a training that went astray.
USER_ERRORS = (ValueError, OSError, ImportError, FloatingPointError)
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(argv=None):
    """Runs one subcommand.

    Args:
        argv: list of arguments without the program's name; those of the process by default.

    Returns:
        Exit code: 0, 2 for an error of the user (printed to stderr), 130 when interrupted.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = parse_arguments(argv)
    except SystemExit as stop:  # argparse's own errors (2) and --help (0)
        return stop.code
    except USER_ERRORS as error:
        return _report(error)
    arguments.argv = argv
    try:
        arguments.run(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted" + getattr(arguments, "when_interrupted", ""), file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        if arguments.traceback:
            traceback.print_exc()
        message = user_message(error)
        if message is None:
            raise
        return _report(message)
    return 0


def _report(error):
    print(f"error: {error}", file=sys.stderr)
    return EXIT_USER_ERROR


def user_message(error):
    """What to tell the user about an error; None for one that is a bug of ours.

    tf.data wraps what our readers raise (a damaged picture) into its own errors: the message of
    the original is found in theirs.
    """
    if isinstance(error, USER_ERRORS):
        return str(error)
    if type(error).__module__.startswith("tensorflow"):
        found = re.search(r"(?:ValueError|FileNotFoundError): (.+)", str(error))
        return found.group(1) if found else None
    return None


def parse_arguments(argv):
    """The namespace of one subcommand; with --resume, the saved arguments are its defaults."""
    parser, subparsers = build_parser()
    arguments = parser.parse_args(argv)
    if getattr(arguments, "resume", False):
        saved = train.saved_arguments(arguments.output)
        subparsers[arguments.command].set_defaults(**saved)
        arguments = parser.parse_args(argv)
        for name in train.ARCHITECTURE:
            if getattr(arguments, name) != saved.get(name, getattr(arguments, name)):
                raise ValueError(
                    f"--{name.replace('_', '-')} was {saved[name]!r} when {arguments.output} was "
                    "started and cannot change with --resume. Leave it out, or start a new run "
                    "in another --output."
                )
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
        description="GFLV2, a dense object detector for Keras 3. The backend is chosen by the "
        "environment variable KERAS_BACKEND: tensorflow, jax or torch.",
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
