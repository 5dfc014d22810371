"""Arguments of a training of seconds, and a command that must fail as a mistake of the user."""

from keras_gflv2 import cli

TINY = (
    "--backbone resnet18 --base-channels 8 --fpn-channels 16 --head-channels 16 --head-depth 1 "
    "--head-norm-groups 4 --image-size 64 64 --batch-size 4 --recipe scratch --verbose 0"
).split()
DATA = "--data shapes:train:4 --validation-data shapes:val:2".split()


def fails(capsys, *arguments):
    """Runs a command which must fail as a mistake of the user; returns what it says."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message
