"""Published weights from a server to a model: whole, interrupted, wrong, offline."""

import hashlib
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from checkpoints.official_files import save
from common import small_model, to_numpy

import keras_gflv2
from keras_gflv2.backbones import ResNet
from keras_gflv2.checkpoints import CheckpointError, DownloadError, convert
from keras_gflv2.checkpoints.download import cache_directory, download
from keras_gflv2.checkpoints.mmdetection import backbone_name_map, name_map
from keras_gflv2.checkpoints.presets import Preset, load_published
from keras_gflv2.models.zoo import DETECTORS

FILE = DETECTORS["r50_coco"].file
HTML = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"


@pytest.fixture(scope="module")
def r50(tmp_path_factory):
    """An official checkpoint with random weights, and these weights."""
    random = np.random.default_rng(0)
    model = keras_gflv2.GFLV2(**DETECTORS["r50_coco"].constructor_arguments())
    state = {}
    for key, variable in name_map(model):
        value = random.uniform(0.1, 0.2, variable.shape).astype("float32")
        if value.ndim == 4:
            value = value.transpose(3, 2, 0, 1)
        elif value.ndim == 2:
            value = value.T[:, :, None, None]
        if key.startswith("bbox_head.gfl_cls"):  # the background channel
            value = np.concatenate([value, value[:1]])
        state[key] = value
    path = tmp_path_factory.mktemp("weights") / FILE
    save(path, {"meta": {"epoch": 24}, "state_dict": state})
    return path, state


def test_from_preset_downloads_converts_and_keeps(server, r50):
    path, state = r50
    server.files[FILE] = path.read_bytes()
    server.cuts = [len(server.files[FILE]) // 3]  # The first answer breaks off.
    model = keras_gflv2.GFLV2.from_preset("r50_coco", bounding_box_format="xywh")
    assert model.bounding_box_format == "xywh"
    assert [start is not None for _, start in server.requests] == [False, True]
    for key, variable in name_map(model):
        if variable.ndim == 1 and "gfl_cls" not in key:
            np.testing.assert_array_equal(to_numpy(variable), state[key])
    kernel = state["bbox_head.gfl_cls.weight"][:80].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(to_numpy(model.head.classification_conv.kernel), kernel)
    assert len(model.class_names) == 80 and model.class_names[79] == "toothbrush"

    server.files.clear()  # From here on there is no network.
    fewer = keras_gflv2.GFLV2.from_preset("r50_coco", num_classes=3)
    assert fewer.class_names is None
    np.testing.assert_array_equal(
        to_numpy(fewer.head.distribution_conv.kernel), to_numpy(model.head.distribution_conv.kernel)
    )
    assert sorted(p.name for p in cache_directory().iterdir() if p.is_dir()) == ["r50_coco-v1"]
    assert not list(cache_directory().glob("*.pth*"))


def test_two_processes_download_once(server, r50, tmp_path):
    path, _ = r50
    server.files[FILE] = path.read_bytes()
    script = (
        "import keras_gflv2\n"
        "model = keras_gflv2.GFLV2.from_preset('r50_coco')\n"
        "print('sum', float(abs(model.head.distribution_conv.get_weights()[0]).sum()))\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    runs = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=600)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    sums = {line for output in outputs for line in output.splitlines() if line.startswith("sum")}
    assert len(sums) == 1
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HTML, "web page"),
        (b"PK\x03\x04 cut off", "damaged"),
        (b"\xff\xd8\xff\xe0 a photograph", "no file of torch.save"),
    ],
)
def test_wrong_files_are_named_and_not_kept(content, message, server):
    server.files[FILE] = content
    with pytest.raises(CheckpointError, match=message):
        keras_gflv2.GFLV2.from_preset("r50_coco")
    assert not list(cache_directory().glob("*.pth*"))
    assert not list(cache_directory().glob("*v1"))


def test_another_models_weights_are_refused(server, r50, tmp_path):
    _, state = r50
    missing = {k: v for k, v in state.items() if not k.startswith("backbone.layer4.2")}
    save(tmp_path / "wrong.pth", {"state_dict": missing})
    server.files[FILE] = (tmp_path / "wrong.pth").read_bytes()
    with pytest.raises(CheckpointError, match=r"missing: backbone\.layer4\.2\.bn1\.bias"):
        keras_gflv2.GFLV2.from_preset("r50_coco")


def test_without_a_network_the_error_says_what_to_do(server):
    with pytest.raises(DownloadError) as error:
        keras_gflv2.GFLV2.from_preset("r50_coco")
    message = str(error.value)
    for part in ("404", DETECTORS["r50_coco"].url, str(cache_directory() / FILE), "convert FILE"):
        assert part in message
    server.shutdown()
    server.server_close()
    with pytest.raises(DownloadError, match="cannot be had"):
        ResNet.from_preset("resnet18_imagenet")
    # The networks alone need none.
    assert keras_gflv2.GFLV2.from_preset("r50_coco", load_weights=False).num_classes == 80
    assert ResNet.from_preset("resnet18_imagenet", load_weights=False).depth == 18


def test_a_file_put_there_by_hand_is_used(server, r50):
    path, state = r50
    cache_directory().mkdir(parents=True)
    (cache_directory() / FILE).write_bytes(path.read_bytes())
    model = keras_gflv2.GFLV2.from_preset("r50_coco")
    bias = to_numpy(model.head.distribution_conv.bias)
    np.testing.assert_array_equal(bias, state["bbox_head.gfl_reg.bias"])
    assert server.requests == []
    assert (cache_directory() / FILE).is_file()  # It is the user's.


# === The cache ===


@pytest.fixture
def published(server, tmp_path):
    """A backbone's preset on the server, and the kernel of its first convolution."""
    model = ResNet(18, base_channels=8)
    state = {}
    for key, variable in backbone_name_map(model):
        value = to_numpy(variable)
        state[key] = np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)
    save(tmp_path / "tiny.pth", {"state_dict": state})
    data = (tmp_path / "tiny.pth").read_bytes()
    server.files["tiny.pth"] = data
    cache_directory().mkdir(parents=True)
    digest = hashlib.sha256(data).hexdigest()[:8]
    url = "https://nowhere.invalid/tiny.pth"
    preset = Preset(name="tiny", description="", url=url, file="tiny.pth", digest=digest)
    return preset, state["conv1.weight"].transpose(2, 3, 1, 0)


def load_anew(preset):
    model = ResNet(18, base_channels=8)
    load_published(model, preset, lambda: ResNet(18, base_channels=8))
    return to_numpy(model.get_layer("conv1").kernel)


def test_a_converted_folder_that_is_not_whole_is_made_again(published, server):
    preset, kernel = published
    np.testing.assert_array_equal(load_anew(preset), kernel)
    folder = cache_directory() / "tiny-v1"
    config, weights = folder / "config.json", folder / "model.weights.h5"
    for damage in (
        lambda: config.write_text(config.read_text()[:50]),
        lambda: weights.write_bytes(weights.read_bytes()[:1000]),
        lambda: weights.write_bytes(b""),
        lambda: keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).save_weights(weights),
        config.unlink,
    ):
        damage()
        np.testing.assert_array_equal(load_anew(preset), kernel)
    assert len(server.requests) == 6


def test_another_file_in_the_cache_is_not_taken_for_the_presets(published, server):
    preset, kernel = published
    source = cache_directory() / "tiny.pth"
    source.write_bytes(b"another")
    with pytest.warns(UserWarning, match=f"does not begin with {preset.digest}"):
        np.testing.assert_array_equal(load_anew(preset), kernel)
    assert (cache_directory() / "tiny.pth.other").read_bytes() == b"another"
    shutil.rmtree(cache_directory() / "tiny-v1")
    server.files.clear()
    source.write_bytes(b"another")
    with pytest.warns(UserWarning), pytest.raises(DownloadError, match=preset.digest):
        load_anew(preset)
    assert source.read_bytes() == b"another"


# === Downloads ===


def test_a_download_is_whole_or_not_there(server, tmp_path):
    data = np.random.default_rng(0).bytes(3_000_000)
    server.files["weights.pth"] = data
    path = tmp_path / "weights.pth"
    server.cuts = [10, 1_000_000, 1_500_000]
    with pytest.raises(DownloadError, match="connection ended"):
        download("https://nowhere.invalid/a/weights.pth", path)
    assert not path.exists()
    # A later call goes on.
    download("https://nowhere.invalid/a/weights.pth", path, hashlib.sha256(data).hexdigest()[:8])
    assert path.read_bytes() == data
    assert server.requests[-1][1] == "bytes=1500000-"
    assert sorted(p.name for p in tmp_path.glob("weights*")) == ["weights.pth"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(server, tmp_path):
    path = tmp_path / "weights.pth"
    server.files["weights.pth"], server.cuts = b"a" * 1000, [10, 20, 30]
    with pytest.raises(DownloadError):
        download("https://nowhere.invalid/weights.pth", path)
    server.files["weights.pth"] = b"b" * 1000
    download("https://nowhere.invalid/weights.pth", path)
    assert path.read_bytes() == b"b" * 1000


def test_a_server_that_cannot_resume(server, tmp_path):
    server.files["weights.pth"], server.cuts, server.resumes = b"a" * 1000, [10], False
    download("https://nowhere.invalid/weights.pth", tmp_path / "weights.pth")
    assert (tmp_path / "weights.pth").read_bytes() == b"a" * 1000


def test_a_wrong_digest_is_refused(server, tmp_path):
    server.files["weights.pth"] = b"a" * 1000
    with pytest.raises(CheckpointError, match="instead of 01234567"):
        download("https://nowhere.invalid/weights.pth", tmp_path / "weights.pth", "01234567")
    assert not list(tmp_path.glob("weights*"))


# === Names ===


def test_unknown_presets_and_handles_say_what_is_known():
    with pytest.raises(ValueError, match="r101_dcn_coco"):
        keras_gflv2.GFLV2.from_preset("r99_coco")
    with pytest.raises(ValueError, match="resnet50_imagenet"):
        ResNet.from_preset("r50_coco")
    with pytest.raises(ValueError, match="r101_dcn_coco"):
        convert("weights.pth", "r99_coco", "out")
    assert set(DETECTORS) < set(keras_gflv2.DenseDetector.presets)


def test_handles_of_hubs_load_through_their_libraries(tmp_path, monkeypatch):
    """The libraries give the path of a folder; without them the error says what to install."""
    model = small_model()
    model.save_to_preset(tmp_path / "preset")
    hub = type(sys)("huggingface_hub")
    hub.snapshot_download = lambda name: str(tmp_path / name.split("/")[1])
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    copy = keras_gflv2.GFLV2.from_preset("hf://someone/preset")
    assert copy.count_params() == model.count_params()
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ImportError, match="pip install kagglehub"):
        keras_gflv2.GFLV2.from_preset("kaggle://someone/gflv2/keras/preset")
