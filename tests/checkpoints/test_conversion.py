"""Checkpoint files to models: what is read off a file, and what it does not have."""

import dataclasses

import keras
import numpy as np
import pytest
from checkpoints.official_files import save, state_of
from common import small_model, to_numpy

import keras_gflv2
from keras_gflv2 import cli
from keras_gflv2.backbones import ResNet
from keras_gflv2.checkpoints import CheckpointError, convert
from keras_gflv2.checkpoints.download import cache_directory
from keras_gflv2.checkpoints.mmdetection import backbone_name_map
from keras_gflv2.models.zoo import DETECTORS


def test_convert_reads_the_network_off_the_file(tmp_path, monkeypatch):
    """One's own training: three classes, modulated deformable convolutions, or GFLV1."""
    small = {"depth": 50, "base_channels": 8}
    sizes = {"fpn_channels": 16, "head_channels": 16, "head_depth": 1, "head_norm_groups": 4}
    monkeypatch.setitem(
        DETECTORS,
        "r50_coco",
        dataclasses.replace(
            DETECTORS["r50_coco"],
            backbone_arguments=small,
            arguments={**DETECTORS["r50_coco"].arguments, **sizes},
        ),
    )
    for name, extra, statistics, background in (
        ("v2", {"deformable_stages": (3, 4), "deformable_version": 2}, ("topk", "mean"), 1),
        ("v1", {}, (), 0),
    ):
        model = small_model(3, backbone=ResNet(**small, **extra), quality_statistics=statistics)
        save(tmp_path / f"{name}.pth", {"state_dict": state_of(model, background)})
        folder = convert(
            tmp_path / f"{name}.pth", "r50_coco", tmp_path / name, class_names=["a", "b", "c"]
        )
        copy = keras_gflv2.GFLV2.from_preset(folder)
        assert copy.class_names == ["a", "b", "c"]
        assert copy.quality_statistics == statistics
        image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
        np.testing.assert_allclose(
            to_numpy(copy(image)["scores"]), to_numpy(model(image)["scores"]), atol=1e-6
        )


def test_a_smaller_network_of_ones_own_is_read_off_the_file(tmp_path):
    """All but the groups of its normalization, which a file does not have."""
    sizes = {"fpn_channels": 24, "head_channels": 16, "head_depth": 2, "head_norm_groups": 4}
    model = keras_gflv2.GFLV2(ResNet(18, base_channels=8), num_classes=2, **sizes)
    save(tmp_path / "small.pth", {"state_dict": state_of(model)})
    command = ["convert", tmp_path / "small.pth", "--preset", "gflv1_r18_ld_coco"]
    command += ["--class-names", "a", "b", "--head-norm-groups", "4"]
    assert cli.main([*map(str, command), "--output", str(tmp_path / "converted")]) == 0
    copy = keras_gflv2.GFLV2.from_preset(tmp_path / "converted")
    assert {name: getattr(copy, name) for name in sizes} == sizes
    assert copy.backbone.base_channels == 8
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    expected = to_numpy(model(image)["scores"])
    np.testing.assert_allclose(to_numpy(copy(image)["scores"]), expected, atol=1e-6)


def test_a_wider_network_than_the_preset_is_refused(tmp_path):
    arrays = {
        "bbox_head.gfl_cls.weight": np.zeros((3, 512, 3, 3), "float32"),
        "bbox_head.gfl_reg.weight": np.zeros((68, 512, 3, 3), "float32"),
    }
    save(tmp_path / "wide.pth", {"state_dict": arrays})
    with pytest.raises(CheckpointError, match=r"not \(classes, 256, 3, 3\) or a narrower one"):
        convert(tmp_path / "wide.pth", "r50_coco", tmp_path / "out")


def test_the_file_decides_the_version_of_its_deformable_convolutions(server, monkeypatch, tmp_path):
    """The record says version 2, as names and configurations of published files may be wrong."""
    small = {"depth": 50, "base_channels": 8, "deformable_stages": (3, 4)}
    sizes = {"fpn_channels": 16, "head_channels": 16, "head_depth": 1, "head_norm_groups": 4}
    record = dataclasses.replace(
        DETECTORS["x101_dcn_coco"],
        name="small_dcn",
        file="small_dcn.pth",
        backbone_arguments={**small, "deformable_version": 2},
        arguments={"num_classes": 3, **sizes},
    )
    monkeypatch.setitem(DETECTORS, "small_dcn", record)
    assert record.build().backbone.deformable_version == 2
    model = record.build(backbone_arguments={"deformable_version": 1})
    save(tmp_path / record.file, {"state_dict": state_of(model)})
    server.files[record.file] = (tmp_path / record.file).read_bytes()
    for _ in range(2):  # from the server, then from the cache
        loaded = keras_gflv2.GFLV2.from_preset("small_dcn", bounding_box_format="xywh")
        assert loaded.backbone.deformable_version == 1
        for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(other, one)
    assert len(server.requests) == 1


def test_another_detectors_file_is_named(tmp_path):
    shapes = {"bbox_head.atss_cls.weight": (80, 256, 3, 3), "bbox_head.atss_reg.weight": (4,)}
    arrays = {key: np.zeros(shape, "float32") for key, shape in shapes.items()}
    save(tmp_path / "atss.pth", {"state_dict": arrays})
    with pytest.raises(CheckpointError, match=r"It is of ATSS, the preset of GFLV2"):
        convert(tmp_path / "atss.pth", "r50_coco", tmp_path / "out")


def test_deformable_convolutions_on_imagenet_weights(server, monkeypatch):
    """Weights that the classifier does not have start as the layer starts them."""
    keras.utils.set_random_seed(0)
    model = ResNet(50, base_channels=8)
    state = {}
    for key, variable in backbone_name_map(model):
        value = to_numpy(variable)
        state[key] = np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value)
    state["fc.weight"] = np.zeros((10, 4), "float32")
    preset = dataclasses.replace(
        ResNet.presets["resnet50_imagenet"],
        name="small",
        arguments={"depth": 50, "base_channels": 8},
        digest="",
    )
    monkeypatch.setitem(ResNet.presets, "small", preset)
    cache_directory().mkdir(parents=True)
    save(cache_directory() / preset.file, {"state_dict": state})
    deformable = ResNet.from_preset("small", deformable_stages=(3, 4), frozen_stages=1)
    image = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype("float32")
    # Offsets of zero: the same features.
    expected = to_numpy(model(image)["P5"])
    np.testing.assert_allclose(
        to_numpy(deformable(image)["P5"]), expected, atol=1e-5 * np.abs(expected).max()
    )
