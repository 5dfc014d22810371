"""Names of published weight files: every tensor has its variable, every variable its tensor.

`golden/detectors/state_dicts.json.gz` has {preset: {name: shape}} of published files.
"""

import gzip
import json

import numpy as np
import pytest
from common import GOLDEN, SHARED

import keras_gflv2
from keras_gflv2.checkpoints import CheckpointError, load_checkpoint, mmdetection
from keras_gflv2.checkpoints.convert import read_arguments
from keras_gflv2.checkpoints.load import find_source
from keras_gflv2.models.zoo import COCO_CLASSES, DETECTORS

STATE_DICTS = json.loads(
    gzip.decompress((GOLDEN / "detectors" / "state_dicts.json.gz").read_bytes())
)
# Preset: name of its list of tensors in ../shared/state_dicts.
LISTS = {
    "r50_1x_coco": "gfocal_r50_fpn_1x",
    "r50_coco": "gfocal_r50_fpn_ms2x",
    "r101_coco": "gfocal_r101_fpn_ms2x",
    "r101_dcn_coco": "gfocal_r101_dcn_fpn_ms2x",
    "x101_dcn_coco": "gfocal_x101_dcn_fpn_ms2x",
    "r2_101_dcn_coco": "gfocal_r2n101_dcn_fpn_ms2x",
    "r50_1x_paddle_coco": "paddle_gflv2_r50_fpn_1x_coco",
    "gflv1_r50_1x_paddle_coco": "paddle_gfl_r50_fpn_1x_coco",
    "gflv1_r50_1x_coco": "gfl_r50",
    "gflv1_r18_ld_coco": "gfl_r18",
    "atss_r50_1x_coco": "atss_r50",
    "fcos_r50_caffe_1x_coco": "fcos_r50_caffe",
    "fovea_r50_1x_coco": "fovea_r50",
    "retinanet_r50_1x_coco": "retinanet_r50",
}


def test_the_lists_of_tensors_are_the_published_ones():
    if not (SHARED / "state_dicts").is_dir():
        pytest.skip(f"{SHARED / 'state_dicts'} is absent")
    assert set(LISTS.values()) == {path.stem for path in (SHARED / "state_dicts").glob("*.json")}
    for preset, name in LISTS.items():
        published = json.loads((SHARED / "state_dicts" / f"{name}.json").read_text())
        assert STATE_DICTS[preset] == published, name


def zeros(preset):
    # One number in memory for each tensor.
    return {
        key: np.broadcast_to(np.float32(0), shape) for key, shape in STATE_DICTS[preset].items()
    }


@pytest.mark.parametrize("preset", LISTS)
def test_every_tensor_is_one_variable(preset):
    arrays, model = zeros(preset), DETECTORS[preset].build()
    names = find_source(arrays)
    pairs = names.name_map(model)
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {key for key in arrays if not names.NOT_WEIGHTS.search(key)}
    variables = [id(variable) for _, variable in pairs]
    assert len(set(variables)) == len(variables)
    # GFL's integral has constants, and dropout would have a seed: not ours.
    assert set(variables) == {id(variable) for variable in model.variables}
    load_checkpoint(model, arrays)  # which compares the shapes


# Presets whose lists are not at hand: those that have the backbone, and the rest.
PARTS = {
    "gflv1_r101_coco": ("r101_coco", "gflv1_r50_1x_coco"),
    "gflv1_r101_dcn_coco": ("r101_dcn_coco", "gflv1_r50_1x_coco"),
    "gflv1_x101_dcn_coco": ("x101_dcn_coco", "gflv1_r50_1x_coco"),
    "atss_r101_1x_coco": ("r101_coco", "atss_r50_1x_coco"),
}


@pytest.mark.parametrize("preset", PARTS)
def test_deeper_networks_have_the_tensors_of_their_parts(preset):
    of_backbone, rest = (zeros(name) for name in PARTS[preset])
    arrays = {key: value for key, value in of_backbone.items() if key.startswith("backbone.")}
    arrays |= {key: value for key, value in rest.items() if not key.startswith("backbone.")}
    record = DETECTORS[preset]
    load_checkpoint(record.build(**record.read_arguments(arrays)), arrays)


@pytest.mark.parametrize("preset", LISTS)
def test_the_file_tells_its_detector(preset):
    record = DETECTORS[preset]
    detector, arguments, of_backbone = read_arguments(zeros(preset), record)
    assert detector == record.detector
    assert arguments["num_classes"] == len(COCO_CLASSES)
    assert arguments.get("reg_max", 16) == 16
    assert not {*record.sizes} & {*arguments, *of_backbone}  # no smaller than the preset
    if detector == "FCOS":
        assert arguments["head_tower_bias"] is True
    stages = record.backbone_arguments.get("deformable_stages", ())
    assert of_backbone.get("deformable_stages", ()) == stages
    if stages:
        assert of_backbone["deformable_version"] == 1  # 18 channels of offsets


def test_a_fraction_of_a_file_says_what_is_missing():
    arrays = {key: value for key, value in zeros("atss_r50_1x_coco").items() if "_reg" not in key}
    assert read_arguments(arrays, DETECTORS["atss_r50_1x_coco"])[0] == "ATSS"
    with pytest.raises(CheckpointError, match=r"missing: bbox_head\.atss_reg\.bias"):
        load_checkpoint(DETECTORS["atss_r50_1x_coco"].build(), arrays)


def test_qualities_that_no_published_file_has_are_named():
    backbone = keras_gflv2.backbones.ResNet(18, base_channels=8)
    model = keras_gflv2.ATSS(backbone, 3, fpn_channels=32, head_channels=32)
    model.head.quality_predictor.conv, conv = None, model.head.quality_predictor.conv
    del model.head.quality_predictor.conv
    with pytest.raises(CheckpointError, match="BranchQuality"):
        mmdetection.name_map(model)
    del conv


# === Presets ===


def test_records_of_presets_are_consistent():
    for name, record in DETECTORS.items():
        assert record.name == name
        assert record.detector_class.__name__ == record.detector
        assert 30 < record.ap_val < 55 and record.license
        if record.digest:
            assert record.url.endswith(record.file)
            assert record.file.endswith(f"-{record.digest}.pth") and len(record.digest) == 8
    assert len({record.url for record in DETECTORS.values()}) == len(DETECTORS)
    assert sum(bool(record.digest) for record in DETECTORS.values()) == 16


def test_classes_list_and_load_their_presets():
    everything = set(keras_gflv2.DenseDetector.presets)
    assert everything == {*DETECTORS, "nano_bccd"}
    for detector in ("GFLV1", "ATSS", "FCOS", "FoveaBox", "RetinaNet"):
        presets = getattr(keras_gflv2, detector).presets
        assert set(presets) == {n for n, r in DETECTORS.items() if r.detector == detector}
    # GFLV1 is GFLV2 without its quality predictor.
    assert set(keras_gflv2.GFLV2.presets) == {
        "nano_bccd",
        *(n for n, r in DETECTORS.items() if r.detector in ("GFLV1", "GFLV2")),
    }
    for cls in (keras_gflv2.DenseDetector, keras_gflv2.GFLV2, keras_gflv2.GFLV1):
        model = cls.from_preset("gflv1_r18_ld_coco", load_weights=False)
        assert type(model) is keras_gflv2.GFLV1
        assert (model.backbone.depth, model.num_classes) == (18, 80)


def test_presets_of_another_detector_name_it(tmp_path):
    with pytest.raises(ValueError, match=r"`ATSS\.from_preset`"):
        keras_gflv2.FCOS.from_preset("atss_r50_1x_coco", load_weights=False)
    with pytest.raises(ValueError, match=r"`GFLV2\.from_preset`"):
        keras_gflv2.GFLV1.from_preset("r50_coco", load_weights=False)
    with pytest.raises(ValueError, match="retinanet_r50_2x_coco"):
        keras_gflv2.RetinaNet.from_preset("retinanet_r99_coco")


def test_folders_know_their_class(tmp_path):
    backbone = keras_gflv2.backbones.ResNet(18, base_channels=8)
    model = keras_gflv2.FoveaBox(backbone, 3, fpn_channels=16, head_channels=16, head_depth=1)
    folder = model.save_to_preset(tmp_path / "fovea")
    for cls in (keras_gflv2.DenseDetector, keras_gflv2.FoveaBox):
        assert type(cls.from_preset(folder)) is keras_gflv2.FoveaBox
    with pytest.raises(ValueError, match=r"`FoveaBox\.from_preset`"):
        keras_gflv2.GFLV2.from_preset(folder)


def test_rows_of_classes_follow_their_names_in_every_anchor(tmp_path):
    backbone = keras_gflv2.backbones.ResNet(18, base_channels=8)
    model = keras_gflv2.RetinaNet(
        backbone, 3, fpn_channels=16, head_channels=16, head_depth=1, class_names=["a", "b", "c"]
    )
    folder = model.save_to_preset(tmp_path / "retinanet")
    copy = keras_gflv2.RetinaNet.from_preset(folder, class_names=["c", "new", "a"])
    old, new = (
        m.head.classification_conv.get_weights()[0].reshape(3, 3, 16, 9, 3) for m in (model, copy)
    )
    np.testing.assert_array_equal(new[..., 0], old[..., 2])
    np.testing.assert_array_equal(new[..., 2], old[..., 0])
    assert not np.any(new[..., 1] == old[..., 1])


def test_a_users_subclass_loads_the_presets_of_its_base(tmp_path):
    class Mine(keras_gflv2.GFLV2):
        pass

    model = Mine.from_preset("nano_bccd")
    assert type(model) is Mine and model.preset["name"] == "nano_bccd"
    assert set(Mine.presets) == {n for n, r in DETECTORS.items() if r.detector == "GFLV2"} | {
        "nano_bccd"
    }
