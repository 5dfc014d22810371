"""Presets and .keras files of strangers: what is checked before anything is built."""

import json
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
from common import small_model, tiny_backbone

import keras_gflv2
from keras_gflv2.checkpoints.configs import check_classes
from keras_gflv2.checkpoints.keras_files import load_keras_file
from keras_gflv2.checkpoints.weight_files import check_weight_file

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


@pytest.fixture
def edited(saved, tmp_path):
    """Writes the preset and the .keras file anew, the detector's arguments being changed."""

    def edit(**changes):
        shutil.copytree(saved / "preset", tmp_path / "preset", dirs_exist_ok=True)
        config = json.loads((saved / "preset" / CONFIG).read_text())
        config["model"]["config"].update(changes)
        (tmp_path / "preset" / CONFIG).write_text(json.dumps(config))
        source = zipfile.ZipFile(saved / "model.keras")
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            for name in source.namelist():
                data = source.read(name)
                if name == CONFIG:
                    whole = json.loads(data)
                    whole["config"].update(changes)
                    data = json.dumps(whole).encode()
                archive.writestr(name, data)
        return tmp_path / "preset", tmp_path / "model.keras"

    return edit


def assert_refused(paths, message):
    preset, file = paths
    with pytest.raises(ValueError, match=message):
        keras_gflv2.GFLV2.from_preset(preset)
    with pytest.raises(ValueError, match=message):
        load_keras_file(file)


def test_what_is_saved_is_loaded(saved):
    model = load_keras_file(saved / "model.keras")
    copy = keras_gflv2.GFLV2.from_preset(saved / "preset")
    for one, other in zip(model.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# === Classes ===


def named(name, module="keras.layers", config=None, registered=None):
    return {
        "module": module,
        "class_name": name,
        "config": config or {},
        "registered_name": registered,
    }


def function(name, module):
    return named("function", module, name, name)


REFUSED = {
    "Lambda": named("Lambda", config={"function": function("get_file", "keras.utils")}),
    "Lambda without a module": {"class_name": "Lambda", "config": {}},
    "TextVectorization": named("TextVectorization"),
    "StringLookup": named("StringLookup", config={"vocabulary": "/etc/passwd"}),
    "TFSMLayer": named("TFSMLayer", config={"filepath": "/tmp/model"}),
    "TorchModuleWrapper": named("TorchModuleWrapper"),
    "get_file": named("get_file", "keras.utils"),
    "clear_session": function("clear_session", "keras.backend"),
    "load_model": function("load_model", "keras.saving"),
    "system": named("system", "os"),
    "functions": function("get", "keras.activations"),
    "PyDataset": named("PyDataset", "keras.utils"),
    "__lambda__": named("__lambda__", config={"value": "..."}),
    "__typespec__": named("__typespec__", config=[]),
    "no name": {"class_name": ["Lambda"], "config": {}},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_classes_are_refused_wherever_they_are(kind):
    for place in (REFUSED[kind], {"a": [{"config": {"b": REFUSED[kind]}}]}):
        with pytest.raises(ValueError, match="not loaded from files"):
            check_classes(place, "config.json")


def test_a_lambda_in_a_file_is_not_made(edited):
    assert_refused(edited(prediction_decoder=REFUSED["Lambda"]), "keras.layers.Lambda")


def test_classes_of_the_user_are_loaded(saved):
    class Mine(keras.layers.Layer):
        pass

    entry = named("Mine", "my_module", registered="Mine")
    with pytest.raises(ValueError, match="register_keras_serializable"):
        check_classes(entry, "config.json")
    check_classes(entry, "config.json", {"Mine": Mine})
    with keras.saving.custom_object_scope({"Mine": Mine}):
        check_classes(entry, "config.json")
    keras.saving.register_keras_serializable("tests")(Mine)
    check_classes(keras.saving.serialize_keras_object(Mine()), "config.json")


def test_what_backbones_are_made_of_is_allowed():
    image = keras.Input((None, None, 3))
    x = (image - 127.5) / 58.0
    outputs = {}
    for level in range(1, 6):
        x = keras.layers.SeparableConv2D(
            8,
            3,
            2,
            "same",
            activation=keras.activations.gelu,
            depthwise_initializer=keras.initializers.VarianceScaling(2.0),
            depthwise_regularizer=keras.regularizers.L2(1e-4),
            dtype=keras.DTypePolicy("mixed_bfloat16"),
        )(x)
        x = keras.layers.LeakyReLU()(keras.layers.GroupNormalization(4)(x))
        outputs[f"P{level}"] = keras.ops.silu(x)
    model = small_model(backbone=keras.Model(image, {k: outputs[k] for k in ("P3", "P4", "P5")}))
    model.compile(
        keras.optimizers.SGD(keras.optimizers.schedules.PiecewiseConstantDecay([10**6], [0.1, 0.0]))
    )
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    check_classes(config, "config.json")
    check_classes(named("LayerScale", "keras.src.applications.convnext"), "config.json")


def test_tiny_backbones_are_plain():
    check_classes(keras.saving.serialize_keras_object(tiny_backbone()), "config.json")


BACKBONES = {
    "keras_cv": (
        "CSPDarkNetBackbone",
        {
            "stackwise_channels": [16, 16, 16, 16],
            "stackwise_depth": [1, 1, 1, 1],
            "include_rescaling": True,
        },
    ),
    "keras_hub": (
        "ResNetBackbone",
        {
            "input_conv_filters": [64],
            "input_conv_kernel_sizes": [3],
            "stackwise_num_filters": [64, 8, 8, 8],
            "stackwise_num_blocks": [1, 1, 1, 1],
            "stackwise_num_strides": [1, 2, 2, 2],
            "block_type": "basic_block",
        },
    ),
}


@pytest.mark.parametrize("library", BACKBONES)
def test_backbones_of_other_libraries_are_loaded(library, tmp_path):
    models = pytest.importorskip(library).models
    name, arguments = BACKBONES[library]
    model = small_model(backbone=getattr(models, name)(**arguments))
    model.save_to_preset(tmp_path / "preset")
    copy = keras_gflv2.GFLV2.from_preset(tmp_path / "preset")
    assert copy.count_params() == model.count_params()


def test_readers_of_other_libraries_are_refused():
    pytest.importorskip("keras_hub")
    for name in ("BytePairTokenizer", "ImageConverter", "ImageClassifier"):
        entry = named(name, "keras_hub.models", registered=f"keras_hub>{name}")
        with pytest.raises(ValueError, match=name):
            check_classes(entry, "config.json")


# === Sizes ===


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": 10**6, "class_names": None},
        {"num_classes": 10**4, "class_names": None},
        {"fpn_channels": 16_384},
        {"head_depth": 10_000},
        {"head_depth": 10**9},
        {"reg_max": 10**9},
        {"quality_channels": 10**9},
    ],
    ids=lambda changes: "=".join(map(str, next(iter(changes.items())))),
)
def test_sizes_beyond_the_weights_are_refused_before_building(changes, edited, monkeypatch):
    built = []
    original = keras.Variable._initialize_with_initializer
    monkeypatch.setattr(
        keras.Variable,
        "_initialize_with_initializer",
        lambda self, *arguments: (built.append(self.path), original(self, *arguments)),
    )
    assert_refused(edited(**changes), "do not belong together|not describe a detector")
    assert not built


def test_weights_of_another_size_are_named(edited):
    preset, _ = edited(num_classes=4, class_names=None)
    with pytest.raises(ValueError, match="does not fit the model"):
        keras_gflv2.GFLV2.from_preset(preset)


# === Weights ===


def spoil(kind, file, folder):
    """Changes an open weight file in the way that `kind` says."""
    group = file["layers/gfl_head/classification_conv/vars"]
    if kind == "not finite":
        group["1"][0] = np.inf
        return
    del group["1"]
    if kind == "external link":
        group["1"] = h5py.ExternalLink(str(folder / "other.h5"), "/a")
    elif kind == "soft link":
        group["1"] = h5py.SoftLink("/layers/gfl_head/classification_conv/vars/0")
    elif kind == "external storage":
        (folder / "raw").write_bytes(bytes(12))
        group.create_dataset("1", (3,), "f4", external=[(str(folder / "raw"), 0, 12)])
    elif kind == "virtual dataset":
        layout = h5py.VirtualLayout((3,), "f4")
        layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "/a", (3,))
        group.create_virtual_dataset("1", layout)
    elif kind == "claim":
        group.create_dataset("1", (10**10,), "f4", chunks=(10**6,))
    elif kind == "two names":
        group["1"] = file["layers"]
    elif kind == "no numbers":
        group["1"] = "text"


KINDS = [
    "not finite", "external link", "soft link", "external storage", "virtual dataset", "claim",
    "two names", "no numbers",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_weight_files_that_are_more_than_weights(kind, edited, tmp_path):
    preset, keras_file = edited()
    with h5py.File(preset / WEIGHTS, "r+") as file:
        spoil(kind, file, tmp_path)
    source = zipfile.ZipFile(keras_file)
    parts = {name: source.read(name) for name in source.namelist()}
    parts[WEIGHTS] = (preset / WEIGHTS).read_bytes()
    with zipfile.ZipFile(keras_file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert_refused((preset, keras_file), kind)
    if kind == "not finite":  # by Keras alone, too
        with pytest.raises(ValueError, match="not finite"):
            keras.saving.load_model(keras_file)


def test_bfloat16_weights_are_read(tmp_path):
    layer = keras.layers.Dense(2, dtype="bfloat16")
    model = keras.Sequential([keras.Input((2,)), layer])
    model.save_weights(tmp_path / "a.weights.h5")
    assert len(check_weight_file(tmp_path / "a.weights.h5")) == 2
    layer.kernel.assign(keras.ops.full((2, 2), np.nan))
    model.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match="not finite"):
        check_weight_file(tmp_path / "a.weights.h5")


# === Folders and files that are not whole ===


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b'{"model": {"config"', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "JSON object"),
        (b"{}", "lacks model.config"),
        (b'{"model": {"config": {"num_classes": 3}}}', "backbone"),
        (b'{"model": {"config": {"num_classes": 3, "backbone": {}}}}', "not describe a detector"),
    ],
)
def test_configurations_that_are_not_whole(content, message, saved, tmp_path):
    shutil.copytree(saved / "preset", tmp_path / "preset")
    (tmp_path / "preset" / CONFIG).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        keras_gflv2.GFLV2.from_preset(tmp_path / "preset")


def test_weights_that_are_not_whole(saved, tmp_path):
    shutil.copytree(saved / "preset", tmp_path / "preset")
    weights = tmp_path / "preset" / WEIGHTS
    whole = weights.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match="no whole file"):
            keras_gflv2.GFLV2.from_preset(tmp_path / "preset")
    weights.unlink()
    with pytest.raises(ValueError, match=WEIGHTS):
        keras_gflv2.GFLV2.from_preset(tmp_path / "preset")
    assert keras_gflv2.GFLV2.from_preset(tmp_path / "preset", load_weights=False)


def test_keras_files_that_are_not_whole(saved, tmp_path):
    whole, path = (saved / "model.keras").read_bytes(), tmp_path / "model.keras"
    for content in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="keras file"):
            load_keras_file(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(CONFIG, "{}")
    with pytest.raises(ValueError, match=r"model\.weights\.h5 is missing"):
        load_keras_file(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_keras_file(tmp_path / "nowhere.keras")
