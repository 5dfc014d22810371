"""Backbones of KerasCV and KerasHub by name, from the files that their own libraries write.

Kaggle is played by kagglehub's own cache: whatever is there is not fetched.
"""

import keras
import numpy as np
import pytest
from common import small_model, to_numpy

import keras_gflv2
from keras_gflv2.backbones import NormalizedBackbone, load_backbone, loading
from keras_gflv2.checkpoints import DownloadError

keras_cv = pytest.importorskip("keras_cv")
keras_hub = pytest.importorskip("keras_hub")


FILES = ("config.json", "image_converter.json", "model.weights.h5")


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """A function from the name of a preset of a library to its folder in kagglehub's cache."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))

    def folder(handle):
        handle = handle.removeprefix("kaggle://")
        path = tmp_path / "cache" / "models" / handle
        path.mkdir(parents=True)
        markers = path.parent / ".complete" / path.name
        markers.mkdir(parents=True)
        for name in FILES:
            (markers / f"{name}.complete").touch()
        return path

    return folder


def cv_backbone(**options):
    return keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 16, 16, 16],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 2],
        block_type="basic_block",
        **{"include_rescaling": True, **options},
    )


def hub_backbone():
    return keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 16, 16, 16],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
    )


def save_cv(backbone, folder):
    from keras_cv.src.utils.preset_utils import save_to_preset

    save_to_preset(backbone, str(folder))


SCALE = [1 / 58.395, 1 / 57.12, 1 / 57.375]
OFFSET = [-123.675 / 58.395, -116.28 / 57.12, -103.53 / 57.375]


def save_hub(backbone, folder):
    backbone.save_to_preset(str(folder))
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(224, 224), scale=SCALE, offset=OFFSET
    )
    converter.save_to_preset(str(folder))
    return converter


def photos(size=64):
    return np.random.default_rng(0).uniform(0, 255, (1, size, size, 3)).astype("float32")


def maps_of(backbone, images):
    """{level: array} of a backbone of one of the libraries."""
    maps = getattr(backbone, "pyramid_outputs", None) or {
        level: backbone.get_layer(name).output
        for level, name in backbone.pyramid_level_inputs.items()
    }
    model = keras.Model(backbone.inputs, {level: maps[level] for level in ("P3", "P4", "P5")})
    return to_numpy(model(images))


def assert_same_maps(found, expected):
    for level in ("P3", "P4", "P5"):
        np.testing.assert_allclose(found[level], expected[level], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rescales", [True, False])
def test_a_preset_of_keras_cv_gets_pixels_divided_by_255(kaggle, rescales):
    """Its presets say include_rescaling; a folder whose model got 0..1 gets them all the same."""
    handle = keras_cv.models.ResNetBackbone.presets["resnet50_imagenet"]["kaggle_handle"]
    original = cv_backbone(include_rescaling=rescales)
    save_cv(original, kaggle(handle))
    backbone = load_backbone("keras_cv:resnet50_imagenet")
    expected = maps_of(original, photos() if rescales else photos() / 255)
    assert_same_maps(to_numpy(backbone(photos())), expected)
    assert backbone.pixel_mean == (0, 0, 0)


def test_a_preset_of_keras_hub_gets_what_its_image_converter_makes(kaggle):
    presets = keras_hub.models.ResNetBackbone.presets
    original = hub_backbone()
    converter = save_hub(original, kaggle(presets["resnet_50_imagenet"]["kaggle_handle"]))
    backbone = load_backbone("keras_hub:resnet_50_imagenet")
    converter.image_size = None  # a detector sees whole images
    assert_same_maps(to_numpy(backbone(photos())), maps_of(original, converter(photos())))
    np.testing.assert_allclose(backbone.pixel_mean, (123.675, 116.28, 103.53))


def test_a_detector_of_keras_hub_gives_its_image_encoder(kaggle):
    presets = keras_hub.models.RetinaNetBackbone.presets
    encoder = hub_backbone()
    folder = kaggle(presets["retinanet_resnet50_fpn_coco"]["kaggle_handle"])
    detector = keras_hub.models.RetinaNetBackbone(encoder, min_level=3, max_level=7, use_p5=True)
    detector.save_to_preset(str(folder))
    keras_hub.layers.RetinaNetImageConverter(scale=1 / 255).save_to_preset(str(folder))
    backbone = load_backbone("keras_hub:retinanet_resnet50_fpn_coco")
    assert_same_maps(to_numpy(backbone(photos())), maps_of(encoder, photos() / 255))


@pytest.mark.parametrize("library", ["keras_cv", "keras_hub"])
def test_the_first_stage_and_batch_normalization_are_frozen(library, tmp_path):
    """And stay so in a detector that is saved."""
    folder = tmp_path / "preset"
    if library == "keras_cv":
        save_cv(cv_backbone(), folder)
    else:
        save_hub(hub_backbone(), folder)
    backbone = load_backbone(f"{library}:{folder}")
    model = small_model(backbone=backbone)
    model.save(tmp_path / "model.keras")
    loaded = [
        keras.saving.load_model(tmp_path / "model.keras"),
        keras_gflv2.DenseDetector.from_preset(model.save_to_preset(tmp_path / "detector")),
    ]
    for other in (model, *loaded):
        assert isinstance(other.backbone, NormalizedBackbone)
        inner = other.backbone.backbone
        first = "v2_stack_0" if library == "keras_cv" else "stack0"
        trained = {v.path.split("/")[0] for v in inner.trainable_variables}
        assert trained and not any(first in name or "conv1" == name for name in trained)
        norms = [x for x in inner._flatten_layers() if "BatchNormalization" in type(x).__name__]
        assert norms and not any(norm.trainable for norm in norms)
        scores = to_numpy(other(photos())["scores"])
        np.testing.assert_allclose(scores, to_numpy(model(photos())["scores"]), atol=1e-5)
    free = load_backbone(f"{library}:{folder}", frozen_stages=-1)
    assert len(free.trainable_variables) > len(backbone.trainable_variables)


def test_own_presets_are_loaded_with_the_stem_and_first_stage_frozen():
    backbone = load_backbone("resnet18_imagenet", load_weights=False)
    assert isinstance(backbone, keras_gflv2.backbones.ResNet)
    assert (backbone.frozen_stages, backbone.batch_norm_statistics) == (1, "running")
    backbone = load_backbone("res2net101_v1d_imagenet", load_weights=False, frozen_stages=-1)
    assert isinstance(backbone, keras_gflv2.backbones.Res2Net) and backbone.frozen_stages == -1


PYRAMIDS = "CSPNet DenseNet EfficientNet ResNet RetinaNet".split()


def test_every_preset_with_maps_has_a_place_to_come_from():
    """ImageNet's and COCO's, by the names that their libraries list."""
    from keras_cv.src.models.backbones.backbone_presets import backbone_presets_with_weights

    known = loading.presets_of_keras_cv(keras_cv)
    names = [name for name in backbone_presets_with_weights if "videoswin" not in name]
    assert {"resnet50_imagenet", "yolo_v8_s_backbone_coco"} <= set(names) <= set(known)
    places = [loading.place_of(name, known, "KerasCV") for name in names]
    for kind in PYRAMIDS:
        presets = getattr(keras_hub.models, f"{kind}Backbone").presets
        assert presets
        places += [loading.place_of(name, presets, "KerasHub") for name in presets]
    assert all(place.startswith("kaggle://keras/") for place in places)


def test_names_that_are_none():
    with pytest.raises(ValueError, match=r"resnet50_imagenet.*keras_hub:NAME"):
        load_backbone("resnet")
    with pytest.raises(ValueError, match="Similar ones are resnet50_imagenet"):
        load_backbone("keras_cv:resnet50_imagenets")
    with pytest.raises(ValueError, match=r"Similar ones are .*resnet_18_imagenet"):
        load_backbone("keras_hub:resnet_180_imagenet")


def test_files_that_cannot_be_had_are_an_error_with_a_way_out(tmp_path, monkeypatch):
    """Without a network, or from a server that does not answer."""
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_ENDPOINT", "http://localhost:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://localhost:1")
    for name in ("keras_cv:densenet121_imagenet", "keras_hub:densenet_121_imagenet"):
        with pytest.raises(DownloadError, match=r"cannot be had.*save_to_preset"):
            load_backbone(name)


def test_maps_of_other_strides_are_refused(tmp_path):
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=[64, 16, 16, 16],
        stackwise_blocks=[1, 1, 1, 1],
        stackwise_strides=[1, 2, 2, 1],
        include_rescaling=True,
        block_type="basic_block",
    )
    save_cv(backbone, tmp_path / "preset")
    with pytest.raises(ValueError, match=r"strides|missing"):
        load_backbone(f"keras_cv:{tmp_path / 'preset'}")


def test_scale_and_offset_are_checked():
    for scale, offset in ((0.0, 1.0), ([1, 2], 0.0), (1.0, [0, 0, 0, 0])):
        with pytest.raises(ValueError, match="red, green and blue"):
            NormalizedBackbone(cv_backbone(), scale, offset)
