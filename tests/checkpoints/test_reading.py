"""Others' weight files, to arrays, without their frameworks and without running anything."""

import datetime
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from common import GOLDEN

from keras_gflv2.checkpoints import CheckpointError, read_checkpoint

SAMPLES = GOLDEN / "checkpoints"
PYTORCH = ["tiny_zip.pth", "tiny_legacy.pth", "tiny_legacy_published.pth"]
PADDLE = ["small_paddle262_protocol2.pdparams", "small_paddle262_tuple_form.pdparams"]
FUZZED = 150


def expected():
    return dict(np.load(SAMPLES / "tiny_expected.npz"))


def assert_same(found, arrays):
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("name", PYTORCH)
def test_every_format_of_pytorch(name):
    assert_same(read_checkpoint(SAMPLES / name), expected())


def test_every_form_of_paddle():
    forms = [read_checkpoint(path) for path in sorted(SAMPLES.glob("*.pdparams"))]
    assert len(forms) == 4
    for form in forms:
        common = set(form) & set(forms[0])
        assert common
        for name in common:
            np.testing.assert_array_equal(form[name], forms[0][name])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_paddle_pickles_of_this_numpy(protocol, tmp_path):
    arrays = {
        "head.weight": np.random.default_rng(0).normal(size=(3, 4, 2)).astype("float32"),
        "head.scale": np.float32([2.5]),
        "fortran": np.asfortranarray(np.arange(6, dtype="float64").reshape(2, 3)),
        "big_endian": np.arange(4, dtype=">i4"),
        "empty": np.zeros((0, 3), "float32"),
    }
    path = tmp_path / "model.pdparams"
    names = {"StructuredToParameterName@@": {"head.weight": "conv2d_0.w_0"}}
    path.write_bytes(pickle.dumps({**arrays, **names}, protocol))
    found = read_checkpoint(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("legacy", [False, True])
def test_files_of_todays_pytorch(legacy, tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32)
    state = OrderedDict(
        weight=base.reshape(2, 3, 4),
        view=base.reshape(4, 6).t()[1:3],  # neither contiguous nor at the storage's start
        half=torch.tensor([1.5, -2.0]).half(),
        bfloat=torch.tensor([1.5, -2.0]).bfloat16(),
        parameter=torch.nn.Parameter(torch.ones(2)),
        count=torch.tensor(7),
    )
    path = tmp_path / "model.pth"
    checkpoint = {"meta": {"epoch": 12, "time": "now"}, "state_dict": state, "optimizer": {}}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(path)
    assert set(found) == set(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.detach().float().numpy(), err_msg=name)


@pytest.mark.parametrize("legacy", [False, True])
def test_only_the_weights_of_a_whole_training_state_are_read(legacy, tmp_path):
    """As mmdetection saves one in the midst of a training: with its optimizer and its records."""
    torch = pytest.importorskip("torch")
    layer = torch.nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    layer(torch.ones(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    meta = {
        "env_info": "sys.platform: linux",
        "seed": None,
        "CLASSES": ("person", "bicycle"),
        "PALETTE": [(220, 20, 60), (119, 11, 32)],
        "hook_msgs": {"best_score": np.float64(0.365), "when": datetime.datetime(2022, 7, 2)},
        "iter": 87960,
    }
    state = layer.state_dict()
    path = tmp_path / "epoch_12.pth"
    torch.save(
        {"meta": meta, "state_dict": state, "optimizer": optimizer.state_dict()},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    assert_same(read_checkpoint(path), {name: value.numpy() for name, value in state.items()})


def test_what_wraps_the_weights_is_taken_off(tmp_path):
    path = tmp_path / "model.pdparams"
    weights = {"module.a": np.ones(2, "float32")}
    path.write_bytes(pickle.dumps({"state_dict": weights, "meta": {}}, 4))
    assert list(read_checkpoint(path)) == ["a"]
    # Objects beside the weights are left alone.
    beside = {"when": datetime.datetime(2020, 11, 20), "state_dict": weights}
    path.write_bytes(pickle.dumps(beside, 4))
    assert list(read_checkpoint(path)) == ["a"]


# === What must not run ===


class Attack:
    """Unpickling it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(marker):
    command = f"touch {marker}"
    return {
        "os.system": Attack(os.system, command),
        "eval": Attack(eval, f"__import__('os').system({command!r})"),
        "exec": Attack(exec, f"import os; os.system({command!r})"),
        "import": Attack(__import__, "antigravity"),
        "inside weights": {"state_dict": {"a": Attack(os.system, command)}},
        "open": Attack(open, str(marker), "w"),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("name", ["os.system", "eval", "exec", "import", "inside weights", "open"])
def test_a_pickle_that_calls_functions_is_refused_and_does_nothing(name, protocol, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "model.pdparams"
    data = pickle.dumps(attacks(marker)[name], protocol)
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="no part of a checkpoint"):
        read_checkpoint(path)
    # The same in PyTorch's zip.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    with pytest.raises(CheckpointError, match="no part of a checkpoint"):
        read_checkpoint(path)
    assert not marker.exists()
    if name != "import":
        pickle.loads(data)  # The attack is a real one.
        assert marker.exists()


HAND_MADE = {
    "INST": b"(S'touch {marker}'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'touch {marker}'\no.",
    "dotted": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch {marker}\x85R.",
    "inert then called": b"\x80\x02ctorch\nload\n\x8c\x01a\x85R.",
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_rare_instructions_call_nothing_either(name, tmp_path):
    path, marker = tmp_path / "model.pdparams", tmp_path / "marker"
    data = b"\x80\x02" + HAND_MADE[name].replace(b"{marker}", str(marker).encode())
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not marker.exists()


# === What is no checkpoint ===


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>", "HTML"),
        (b"\n <html>", "HTML"),
        (b"\xff\xd8\xff\xe0JFIF", "no file of torch.save"),
        (pickle.dumps([1, 2], 4), "no dictionary"),
        (pickle.dumps({"a": 1}, 4), "no weights"),
        (pickle.dumps({"a": np.array(["text"])}, 4), "not read"),
        (b"\x80\x04\x95", "damaged"),
    ],
)
def test_other_files_are_named_as_such(content, message, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_a_zip_of_something_else(tmp_path):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(CheckpointError, match="but not one of torch"):
        read_checkpoint(path)
    # Compressed parts could be bombs; PyTorch writes none.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_checkpoint(tmp_path / "nowhere.pth")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    """A header may claim any size: nothing outside the storage is read."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(5, 7)}, path)
    source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    for old, new in (
        (b"K\x05K\x07\x86", b"K\x05K\xff\x86"),
        (b"K\x07K\x01\x86", b"K\xffK\x01\x86"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name in source.namelist():
                data = source.read(name)
                if name.endswith("data.pkl"):
                    assert old in data
                    data = data.replace(old, new)
                archive.writestr(name, data)
        with pytest.raises(CheckpointError, match="larger than its storage"):
            read_checkpoint(path)


# === Damaged files ===


def fuzz(path, kind, seed, copy):
    """Writes a damaged version of a file, and reads it; None if that is refused."""
    random = np.random.default_rng(seed)
    data = bytearray(Path(path).read_bytes())
    if kind == "cut":
        data = data[: random.integers(len(data))]
    else:
        for position in random.integers(len(data), size=random.integers(1, 4)):
            data[position] ^= 1 << random.integers(8)
    copy.write_bytes(data)
    try:
        return read_checkpoint(copy)
    except CheckpointError:
        return None


@pytest.mark.parametrize("name", [*PYTORCH, *PADDLE])
def test_a_file_that_is_cut_off_is_refused(name, tmp_path):
    for seed in range(FUZZED):
        assert fuzz(SAMPLES / name, "cut", seed, tmp_path / name) is None, seed


def test_flipped_bits_of_a_zip_are_refused_or_change_nothing(tmp_path):
    """Every part of a zip has a checksum; dates and the like have none, and do not matter."""
    refused = 0
    for seed in range(FUZZED):
        found = fuzz(SAMPLES / "tiny_zip.pth", "flip", seed, tmp_path / "a.pth")
        refused += found is None
        if found is not None:
            assert_same(found, expected())
    assert refused > 0.9 * FUZZED


@pytest.mark.parametrize("name", [*PYTORCH[1:], *PADDLE])
def test_flipped_bits_without_a_checksum_never_crash(name, tmp_path):
    """Where numbers alone are changed nobody can tell: names and shapes are checked on loading."""
    for seed in range(FUZZED):
        found = fuzz(SAMPLES / name, "flip", seed, tmp_path / name)
        if found is not None:
            assert (
                sum(array.nbytes for array in found.values()) < 4 * (SAMPLES / name).stat().st_size
            )
