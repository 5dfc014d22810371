"""The parser of the command line: one-line errors, defaults in the help, versions, completion."""

import argparse
import difflib
import importlib.metadata
import os
import platform

EXIT_USER_ERROR = 2
SHELLS = ("bash", "zsh", "tcsh")


class Parser(argparse.ArgumentParser):
    """Says what is wrong with arguments in one line, and which were probably meant."""

    def __init__(self, **kwargs):
        super().__init__(formatter_class=_HelpFormatter, **kwargs)

    def parse_args(self, args=None, namespace=None):
        words = list(args or ())
        command = self.commands().get(words[0]) if words else None
        if command:
            command.check_options(words[1:])
        return super().parse_args(args, namespace)

    def check_options(self, words):
        """Ends the program if there are options that it does not have; before others are missed."""
        options = [option for action in self._actions for option in action.option_strings]
        for word in (word.partition("=")[0] for word in words):
            if len(word) > 2 and word[:2] == "--" and not any(o.startswith(word) for o in options):
                close = difflib.get_close_matches(word, options, 1)
                meant = f"; did you mean {close[0]}?" if close else ""
                self.error(f"unrecognized argument {word}{meant}")

    def error(self, message):
        self.exit(EXIT_USER_ERROR, f"error: {message} (`{self.prog} --help` shows all arguments)\n")

    def commands(self):
        """{name: parser} of the subcommands."""
        choices = (a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return dict(next(choices, {}))


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds "(default: ...)" to every option which has one."""

    def _get_help_string(self, action):
        if action.default in (None, False) or action.default is argparse.SUPPRESS:
            return action.help
        return super()._get_help_string(action)


def add_program_options(parser):
    """--version and --completion, of the program itself."""
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        help="show the versions of this package, Keras, the backends and Python",
    )
    parser.add_argument(
        "--completion",
        action=_Completion,
        choices=SHELLS,
        help="print a script that completes arguments in a shell; in bash: "
        'eval "$(keras-gflv2 --completion bash)"',
    )


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        import keras_gflv2

        names = ("keras", "tensorflow", "jax", "torch")
        found = [f"{name} {version}" for name in names if (version := _version(name))]
        backend = os.environ.get("KERAS_BACKEND")
        chosen = f", KERAS_BACKEND={backend}" if backend else ""
        libraries = ", ".join([*found, f"Python {platform.python_version()}"])
        print(f"keras-gflv2 {keras_gflv2.__version__} ({libraries}{chosen})")
        parser.exit()


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class _Completion(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        try:
            import shtab
        except ImportError:
            parser.exit(
                EXIT_USER_ERROR,
                "error: --completion needs shtab: pip install 'keras-gflv2[completion]'\n",
            )
        for command in parser.commands().values():
            for action in command._actions:
                if action.nargs != 0 and action.type is None and not action.choices:
                    action.complete = shtab.FILE  # most texts name files
        print(shtab.complete(parser, shell=values))
        parser.exit()
