"""`keras-gflv2 figures`: one picture a figure."""

from cli_commands import coco_of, fails
from PIL import Image
from serving.conftest import cells

from keras_gflv2 import cli
from keras_gflv2.cli import sources


def test_every_figure_is_written(tmp_path, capsys):
    Image.fromarray(cells(0, (240, 320))).save(tmp_path / "first.jpg")
    data = coco_of(sources.load_model("nano_bccd"), [tmp_path / "first.jpg"], tmp_path, 10)
    log = tmp_path / "log.csv"
    log.write_text("epoch,classification_loss\n0,0.5\n1,0.25\n")
    table = tmp_path / "results.csv"
    table.write_text("method,images_per_second,AP\na,20,0.4\n")
    command = ["figures", "--output", str(tmp_path), "--results", str(table)]
    command += ["--logs", f"GFLV1={log}", "--format", "webp"]
    assert cli.main(command) == 0  # those that need no model
    assert {path.name for path in tmp_path.glob("*.webp")} == {"figure_6.webp", "figure_8.webp"}
    assert cli.main([*command, "--model", "nano_bccd", "--data", data]) == 0
    names = {f"figure_{name}.webp" for name in ("1b", "1cd", "3", "6", "7", "8")}
    assert {path.name for path in tmp_path.glob("*.webp")} == names
    printed = capsys.readouterr().out
    assert "correlation" in printed and "GFLV1 0.2500" in printed


def test_mistakes(tmp_path, capsys):
    command = ["figures", "--output", tmp_path / "out"]
    assert "Nothing to draw" in fails(capsys, *command)
    assert "--model and --data" in fails(capsys, *command, "--only", "1b")
    assert "--logs" in fails(capsys, *command, "--only", "8", "--results", "a.csv")
    assert "NAME=LOG.csv" in fails(capsys, *command, "--logs", "log.csv")
    assert "missing.csv" in fails(capsys, *command, "--results", tmp_path / "missing.csv")
    assert "figure" in fails(capsys, *command, "--only", "2").lower()
