"""How commands behave in a terminal: what they say to mistakes, and what they do not say."""

import re
import signal
import subprocess
import sys

import pytest
from cli_commands import fails
from fresh_process import REPOSITORY

from keras_gflv2 import cli

# What libraries write by themselves, past Python; the last line is a real error, before the end.
NATIVE = """
import os, sys
from keras_gflv2.cli.screen import quiet_libraries
with quiet_libraries():
    os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written\\n")
    os.write(2, b"I0000 00:00:1795687852.679375   25890 cpu_feature_guard.cc:227] AVX2\\n")
    os.write(2, b"E0000 00:00:1795687992.655459   27106 cuda_platform.cc:52] failed call to cuInit")
    os.write(2, b": UNKNOWN ERROR (303)\\n2026-01-31 10:00:00.123456: I tensorflow/a.cc:1] x\\n")
    print("from Python", file=sys.stderr)
    os.write(2, b"a question without an end? ")
    os.write(2, b"\\nE0000 00:00:1795687992.655459   27106 allocator.cc:52] out of memory\\n")
    os.abort()
"""


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=REPOSITORY, **options
    )


def test_chatter_is_left_out_and_errors_are_not():
    done = run("-c", NATIVE)
    assert done.returncode == -signal.SIGABRT
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Fatal Python")]
    assert sorted(lines) == [
        "E0000 00:00:1795687992.655459   27106 allocator.cc:52] out of memory",
        "a question without an end? ",
        "from Python",
    ]


def test_a_mistake_is_one_line_after_the_libraries_were_imported(tmp_path):
    command = ["-m", "keras_gflv2.cli", "evaluate", "--model", "nano_bccd"]
    done = run(*command, "--data", f"voc:{tmp_path}:val")
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and str(tmp_path) in line


@pytest.mark.parametrize(
    "command, expected",
    [
        ("", "required: COMMAND (`keras-gflv2 --help` shows"),
        ("predict a.jpg --output x", "(`keras-gflv2 predict --help` shows"),
        ("predict a.jpg --modle nano_bccd", "argument --modle; did you mean --model?"),
        ("evaluate --model runs/1 --data shapes:val", "The model runs/1 does not exist"),
        ("train --data nowhere --output x", "'nowhere' is no folder and no file"),
        ("evaluate --model nano_bccd --data voc:nowhere:val", "nowhere does not exist"),
        ("data convert coco:a.json:b --output x.json", "a.json does not exist"),
        ("export --model nano_bccd --output a.tflite --size 1x2x3", "must be like 240x320"),
    ],
)
def test_a_mistake_in_arguments_is_one_line(command, expected, capsys):
    said = fails(capsys, *command.split())
    assert expected in said and said.startswith("error: ") and said.count("\n") == 1


def test_the_versions_of_what_computes_are_told(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(
        r"keras-gflv2 \S+ \(keras 3\.\S+, .*Python 3\..+\)\n", capsys.readouterr().out
    )


def test_shells_complete_commands_options_and_choices(capsys, tmp_path):
    pytest.importorskip("shtab")
    assert cli.main(["--completion", "bash"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    ask = (
        'source "$0"; COMP_WORDS=({words}); COMP_CWORD={last}; _shtab_keras_gflv2; '
        'echo "${{COMPREPLY[*]}}"'
    )
    for words, expected in (
        ("keras-gflv2 pre", {"predict", "presets"}),
        ("keras-gflv2 predict --score", {"--score-threshold"}),
        ("keras-gflv2 export --format on", {"onnx"}),
    ):
        question = ask.format(words=words, last=len(words.split()) - 1)
        done = subprocess.run(["bash", "-c", question, script], capture_output=True, text=True)
        assert set(done.stdout.split()) == expected, done


def test_options_of_one_meaning_have_one_name():
    """The words for what several commands take."""
    _, subparsers = cli.build_parser()
    for name, parser in subparsers.items():
        options = {option for action in parser._actions for option in action.option_strings}
        assert {"--verbose", "--traceback"} <= options, name
        assert not options & {"--batch", "--threshold", "--out", "--weights", "--dataset"}
        if name not in ("presets", "push"):  # the second takes a hub
            assert "--output" in options
        if "--data" in options and name != "export":
            assert {"--image-size", "--validation-fraction", "--batch-size"} <= options, name
