"""`train --backbone`: where a new detector gets its features from, and how these train."""

import json

import keras
import numpy as np
import pytest
from cli_commands import DATA, TINY, fails

from keras_gflv2 import backbones, cli
from keras_gflv2.checkpoints import torchvision
from keras_gflv2.cli import backbone, sources, train_plan

pytestmark = pytest.mark.usefixtures("without_graphs")

# Those of TINY without the backbone and the recipe.
SIZES = TINY[4:-4]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """The run of a detector that has learnt shapes, in place of ImageNet."""
    run = tmp_path_factory.mktemp("learnt") / "run"
    # Fast enough that no residual branch stays at the zero that it starts at.
    training = ["--epochs", "4", "--learning-rate", "0.05"]
    command = ["train", *DATA[:2], *TINY, *training, "--output", str(run)]
    assert cli.main(command) == 0
    return run


def train(*arguments):
    command = ["train", *DATA[:2], *SIZES, "--epochs", "1", "--verbose", "0", *map(str, arguments)]
    assert cli.main(command) == 0


def by_path(model):
    return {v.path: np.array(keras.ops.convert_to_numpy(v)) for v in model.variables}


def test_every_pretrained_backbone_has_its_name_on_the_command_line():
    known = [name for cls in (backbones.ResNet, backbones.Res2Net) for name in cls.presets]
    assert sorted(backbone.PRETRAINED) == sorted(known)
    assert backbone.DEFAULT in known


def test_the_1x_recipe_from_a_pretrained_backbone_is_the_papers(learnt, tmp_path):
    """Section 4: stem, first stage and all statistics of batch normalization stay what they are.

    Its scales and offsets train outside of the frozen stages, as in the official code.
    """
    before = by_path(sources.load_model(learnt / "preset").backbone)
    options = ["--backbone", learnt / "preset", "--recipe", "1x", "--learning-rate", "10"]
    train(*options, "--output", tmp_path / "run")
    trained = sources.load_model(tmp_path / "run" / "model.keras").backbone
    assert (trained.frozen_stages, trained.batch_norm_statistics) == (1, "running")
    after = by_path(trained)
    assert before.keys() == after.keys()
    same = {path for path in before if np.array_equal(before[path], after[path])}
    frozen = ("conv1", "bn1", "layer1_", "normalization")
    assert same == {path for path in before if path.startswith(frozen) or "moving_" in path}


@pytest.mark.parametrize("form", [".keras", ".weights.h5", "running.weights.h5", ".pth"])
def test_a_file_gives_the_backbone_its_weights(learnt, tmp_path, form):
    """A model of its own, weights of a ResNet by Keras, or by torchvision's names."""
    source = sources.load_model(learnt / "preset").backbone if form == ".keras" else resnet18(form)
    file = tmp_path / f"features{form}"
    options = f"--backbone resnet18 --backbone-weights {file}"
    if form == ".keras":
        source.save(file)
        options = f"--backbone {file}"
    elif form.endswith(".weights.h5"):
        source.save_weights(file)
    else:
        torch = pytest.importorskip("torch")
        names = torchvision.name_map(source)
        torch.save({name: torch.from_numpy(official(v)) for name, v in names}, file)
    found = backbone.load(cli.parse_arguments(f"train --output x {options}".split()))
    assert (found.frozen_stages, found.batch_norm_statistics) == (1, "running")
    expected = by_path(source)
    for path, value in by_path(found).items():
        np.testing.assert_array_equal(value, expected[path])


def resnet18(form):
    """One whose statistics are not those that every new one has."""
    statistics = "running" if "running" in form else "batch"
    model = backbones.ResNet(18, batch_norm_statistics=statistics)
    for variable in model.non_trainable_variables:
        if "moving_" in variable.path:
            variable.assign(variable + 0.5)
    return model


def official(variable):
    """A weight in PyTorch's layout."""
    value = np.array(keras.ops.convert_to_numpy(variable))
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value


def test_the_plan_of_the_1x_recipe_is_the_papers():
    """16 images a step at 0.01, in proportion for others; a tenth after epochs 8 and 11 of 12."""
    command = "train --output x --backbone resnet50_imagenet --recipe 1x --batch-size 8".split()
    arguments = cli.parse_arguments(command)
    plan = train_plan.plan_of(arguments, [None] * 100)
    assert (plan.epochs, plan.decay_epochs) == (12, [8, 11])
    assert plan.learning_rate == pytest.approx(0.005)
    optimizer = plan.optimizer(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    assert (type(optimizer).__name__, optimizer.momentum, optimizer.l2) == ("SGDWithL2", 0.9, 1e-4)
    assert not optimizer.use_ema
    assert plan.recipe.image_size(800, 1333) == (800, 1333)
    arguments = cli.parse_arguments(command[:-4])
    assert train_plan.recipe_of(arguments).name == "finetune"


def test_a_run_from_a_pretrained_backbone_goes_on_without_its_weights(learnt, tmp_path, capsys):
    source = sources.load_model(learnt / "preset").backbone
    file = tmp_path / "features.keras"
    source.save(file)
    train("--backbone", file, "--frozen-stages", 2, "--output", tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones.ResNet, "load_weights", None)
        command = ["train", "--output", str(tmp_path / "run"), "--resume", "--epochs", "2"]
        assert cli.main(command) == 0
    assert "recipe finetune" in capsys.readouterr().out
    trained = sources.load_model(tmp_path / "run" / "model.keras").backbone
    assert trained.frozen_stages == 2
    for path, value in by_path(source).items():
        if "layer2_0_conv1" in path:
            np.testing.assert_array_equal(by_path(trained)[path], value)


def test_without_a_network_the_default_starts_from_nothing_and_says_so(tmp_path, capsys, offline):
    sizes = [s for s in SIZES if s not in ("--base-channels", "8")]
    command = ["train", *DATA[:2], *sizes, "--dry-run", "--output", str(tmp_path / "run")]
    assert cli.main(command) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "starts from nothing" in x]
    assert "resnet50_imagenet cannot be had" in line


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_GFLV2_MIRROR", "http://localhost:1")


def test_few_images_and_nothing_to_start_from_are_warned_of():
    def advice(options, num_images=200):
        command = f"train --output x --data voc:a:train {options}".split()
        return backbone.advice(cli.parse_arguments(command), num_images)

    said = advice("--backbone resnet18")
    assert "200 images are few" in said and "--model" in said and "resnet50_imagenet" in said
    assert not advice("--backbone resnet18", 5000)
    assert not advice("--backbone resnet18", None)
    assert not advice("--backbone keras_cv:resnet50_imagenet")
    assert not advice("--backbone resnet18 --data shapes:train")
    assert not advice("--backbone resnet18 --backbone-weights a.pth")


def test_mistakes_about_backbones(tmp_path, capsys):
    def said(*options):
        return fails(capsys, "train", *DATA, "--output", tmp_path / "run", *options)

    assert "keras_hub:NAME or a path" in said("--backbone", "vgg")
    assert "--model brings its backbone" in said("--model", "a", "--backbone", "resnet18")
    assert "--model brings its backbone" in said("--model", "a", "--frozen-stages", "0")
    assert "needs --backbone" in said("--backbone-weights", "a.pth")
    options = ("--backbone", "resnet50_imagenet", "--base-channels", "8")
    assert "leave it out" in said(*options)
    assert "must train" in said("--backbone", "resnet18", "--frozen-stages", "1")
    assert "no.keras does not exist" in said("--backbone", "no.keras")
    deep = tmp_path / "deep.weights.h5"
    backbones.ResNet(34).save_weights(deep)
    assert "no weights of a ResNet-18" in said("--backbone", "resnet18", "--backbone-weights", deep)
    options = ("--backbone", "resnet18", "--backbone-weights", "no.pth")
    assert "no.pth does not exist" in said(*options)
    (tmp_path / "arguments.json").write_text(json.dumps({"arguments": {"backbone": "vgg"}}))
    message = fails(capsys, "train", "--output", tmp_path, "--resume")
    assert "--backbone cannot be 'vgg'" in message
