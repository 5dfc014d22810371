"""Every public part survives saving, alone and inside a detector, under any dtype policy."""

import copy
import inspect
import json

import keras
import numpy as np
import pytest
from common import SMALL, tiny_backbone, to_numpy

import keras_gflv2
from keras_gflv2 import (
    AnchorGrid,
    assigners,
    backbones,
    layers,
    losses,
    postprocessing,
    recipes,
    representations,
)
from keras_gflv2.layers import batch_normalization
from keras_gflv2.layers.reverse_channels import ReverseChannels
from keras_gflv2.parts import Part

MODULES = (assigners, backbones, layers, losses, postprocessing, recipes, representations)
# Classes that others are made from, which nobody has an object of; and two that are written down
# in a training's state, not in a detector.
BASES = {"Assigner", "BoxRepresentation", "PointAssigner", "Quality", "Sampler", "Term"}
NO_PARTS = {"Plan", "WholeTraining"}


# Arguments are others than the defaults.
def branch(dtype):
    return layers.BranchQuality("iou", "classification", dtype=dtype)


def sampled(dtype):
    return layers.SampledQuality(layers.RegionSampler(2), 8, 8, dtype=dtype)


# Layers and models, of a dtype policy.
LAYERS = {
    "BatchNormalization": lambda dtype: batch_normalization.BatchNormalization(dtype=dtype),
    "BranchQuality": branch,
    "ComposedQuality": lambda dtype: layers.ComposedQuality(8, 2, ("topk", "var"), dtype=dtype),
    "Conv2D": lambda dtype: layers.Conv2D(3, 3, strides=2, use_bias=False, dtype=dtype),
    "DeformableConv2D": lambda dtype: layers.DeformableConv2D(
        4, 3, modulated=True, deformable_groups=2, dtype=dtype
    ),
    "DeformableSampler": lambda dtype: layers.DeformableSampler(
        layers.BorderMiddleSampler(), dtype=dtype
    ),
    "DenseHead": lambda dtype: layers.DenseHead(
        3,
        representations.AnchorDeltas((0.1, 0.1, 0.2, 0.2)),
        branch(dtype),
        AnchorGrid(offset=0.5),
        channels=8,
        depth=1,
        norm_groups=None,
        tower_bias=True,
        level_scales=False,
        levels=("P3", "P4"),
        dtype=dtype,
    ),
    "DistributionGuidedQualityPredictor": lambda dtype: layers.DistributionGuidedQualityPredictor(
        2, 8, ("var",), dtype=dtype
    ),
    "FeaturePyramid": lambda dtype: layers.FeaturePyramid(
        8, ("P2", "P3"), 1, True, "input", dtype=dtype
    ),
    "GFLHead": lambda dtype: layers.GFLHead(
        3, 8, 8, 1, 2, True, 2, 8, ("topk",), ("P3", "P4"), trainable=False, dtype=dtype
    ),
    "Integral": lambda dtype: layers.Integral(dtype=dtype),
    "NormalizedBackbone": lambda dtype: backbones.NormalizedBackbone(
        tiny_backbone(), [0.1, 0.2, 0.3], 1.0, "n", False, dtype=dtype
    ),
    "PadToMultiple": lambda dtype: layers.PadToMultiple(16, (0, 1, 2), dtype=dtype),
    "PredictionDecoder": lambda dtype: postprocessing.PredictionDecoder(0.1, 0.5, 9, 7, dtype),
    "Res2Net": lambda dtype: backbones.Res2Net(
        50, 2, 26, 8, (3,), 2, 1, "batch", False, (1, 2, 3), (4, 5, 6), dtype=dtype
    ),
    "ResNet": lambda dtype: backbones.ResNet(
        18, 8, deep_stem=True, frozen_stages=2, name="r", trainable=False, dtype=dtype
    ),
    "ReverseChannels": lambda dtype: ReverseChannels(dtype=dtype),
    "RunningBatchNormalization": lambda dtype: batch_normalization.RunningBatchNormalization(
        momentum=0.5, dtype=dtype
    ),
    "SampledQuality": sampled,
}
# Losses and parts without weights, which compute in float32.
OTHERS = {
    "ATSSAssigner": lambda dtype: assigners.ATSSAssigner(5, 4.0, 0.3, 1),
    "AnchorDeltas": lambda dtype: representations.AnchorDeltas((0.1, 0.1, 0.2, 0.2)),
    "AnchorGrid": lambda dtype: AnchorGrid((8, 16, 32, 64, 128), 0.5, 4.0, 2, (0.5, 1.0)),
    "BorderExtremeSampler": lambda dtype: layers.BorderExtremeSampler(3),
    "BorderMiddleSampler": lambda dtype: layers.BorderMiddleSampler(),
    "BorderSampler": lambda dtype: layers.BorderSampler(3),
    "BoxTerm": lambda dtype: losses.BoxTerm(losses.L1Loss(), 0.5, None, True, "positives_alone"),
    "ClassTerm": lambda dtype: losses.ClassTerm(
        losses.FocalLoss(0.4, 1.5), 2.0, "one", "positives_and_images"
    ),
    "Criterion": lambda dtype: losses.Criterion(
        [losses.ClassTerm(target="one"), losses.BoxTerm(losses.IoULoss("linear"))]
    ),
    "DistillationTerm": lambda dtype: losses.DistillationTerm(
        losses.LocalizationDistillationLoss(5.0), 0.5, "iou"
    ),
    "DistributionFocalLoss": lambda dtype: losses.DistributionFocalLoss(None, "b", "float64"),
    "DistributionTerm": lambda dtype: losses.DistributionTerm(
        losses.DistributionFocalLoss(), 0.5, "iou"
    ),
    "Distances": lambda dtype: representations.Distances("exp", 2.0, False, 16.0, 1.0),
    "FCOSAssigner": lambda dtype: assigners.FCOSAssigner(None, (32, 64, 128, 256), 16),
    "FocalLoss": lambda dtype: losses.FocalLoss(0.4, 1.5, False, "sum", "a", "float16"),
    "FoveaAssigner": lambda dtype: assigners.FoveaAssigner(0.3, 16),
    "GIoULoss": lambda dtype: losses.GIoULoss(1e-3, "sum", "c"),
    "GeneralDistribution": lambda dtype: representations.GeneralDistribution(
        8, layers.Integral(name="other")
    ),
    "IoULoss": lambda dtype: losses.IoULoss("linear", 1e-3, "sum", "d", "float64"),
    "L1Loss": lambda dtype: losses.L1Loss("sum", "e", "float16"),
    "LocalizationDistillationLoss": lambda dtype: losses.LocalizationDistillationLoss(
        5.0, "sum", "g", "float64"
    ),
    "MaxIoUAssigner": lambda dtype: assigners.MaxIoUAssigner(0.6, 0.3, 0.1, 0.4, 16),
    "NoQuality": lambda dtype: layers.NoQuality(),
    "PointSampler": lambda dtype: layers.PointSampler(),
    "QualityFocalLoss": lambda dtype: losses.QualityFocalLoss(1.5, True, "sum", "a", "float16"),
    "QualityTerm": lambda dtype: losses.QualityTerm(
        keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1), 0.5, "iou"
    ),
    "RegionSampler": lambda dtype: layers.RegionSampler(2),
    "SideCalibration": lambda dtype: postprocessing.SideCalibration(
        (1, 2, 3, 4), 0.5, (0, 0.1, 0.2, 0.3), (0.5, 0.9), ((1, 1, 1, 1), (2, 3, 4, 5)), 9
    ),
    "SmoothL1Loss": lambda dtype: losses.SmoothL1Loss(0.2, "sum", "f", "float64"),
    "StarSampler": lambda dtype: layers.StarSampler(),
}
# Of training.
RECIPES = {
    "Recipe": lambda dtype: recipes.Recipe("mine", "", 3, False, 0.5, 7, (0.5,), (0.5, 1.0), 0.9),
    "SGDWithL2": lambda dtype: recipes.SGDWithL2(
        recipes.WarmUpCosine(0.1, 0, 9), 0.5, 0.1, global_clipnorm=3.0, use_ema=True
    ),
    "WarmUpCosine": lambda dtype: recipes.WarmUpCosine(0.1, 2, 9, 4, 0.3),
    "WarmUpStepDecay": lambda dtype: recipes.WarmUpStepDecay(0.1, (3, 5), 2, 0.5, 0.2),
}
PARTS = {**LAYERS, **OTHERS, **RECIPES}
# Parts that are no argument of a detector: each has one, or its backbone.
ALONE = {"BatchNormalization", "Conv2D", "DeformableConv2D", "DenseHead", "FeaturePyramid"}
ALONE |= {"DistillationTerm", "LocalizationDistillationLoss", "SideCalibration"}
ALONE |= {"GFLHead", "PadToMultiple", "ReverseChannels", "RunningBatchNormalization", *RECIPES}


def public_classes():
    found = {}
    for module in (*MODULES, keras_gflv2):
        for name in module.__all__:
            if inspect.isclass(getattr(module, name)):
                found[name] = getattr(module, name)
    return found


def is_detector(cls):
    return issubclass(cls, keras_gflv2.DenseDetector)


def test_every_public_class_is_tested_here():
    """Detectors are in `test_detectors.py`, the one of several views in `test_saving.py`."""
    found = {name for name, cls in public_classes().items() if not is_detector(cls)}
    assert found - BASES - NO_PARTS - {"TestTimeAugmentation"} <= set(PARTS)


def as_json(part):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(part)))


@pytest.mark.parametrize(
    "name, policy",
    [(name, policy) for name in LAYERS for policy in ("float32", "mixed_bfloat16")]
    + [(name, "float32") for name in (*OTHERS, *RECIPES)],
)
def test_a_part_alone(name, policy):
    part = PARTS[name](policy)
    config = copy.deepcopy(part.get_config())
    parameters = inspect.signature(type(part)).parameters.values()
    collected = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    assert {p.name for p in parameters if p.kind not in collected} <= set(config)
    for again in (
        keras.saving.deserialize_keras_object(as_json(part)),
        type(part).from_config(copy.deepcopy(config)),
    ):
        assert type(again) is type(part)
        assert json_of(again.get_config()) == json_of(config)
        if name in LAYERS:
            assert again.dtype_policy.name == part.dtype_policy.name == policy


def json_of(config):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(config)))


def place_of(part):
    """Arguments of a detector that has the part."""
    if isinstance(part, (losses.Criterion, AnchorGrid)):
        return {"criterion" if isinstance(part, losses.Criterion) else "grid": part}
    if isinstance(part, (layers.Quality, layers.Sampler)):
        is_sampler = isinstance(part, layers.Sampler)
        return {"quality": layers.SampledQuality(part, 8, 8) if is_sampler else part}
    for kind, argument in (
        (assigners.Assigner, "assigner"),
        (representations.BoxRepresentation, "representation"),
        (postprocessing.PredictionDecoder, "prediction_decoder"),
        (keras.Model, "backbone"),
    ):
        if isinstance(part, kind):
            return {argument: part}
    if isinstance(part, layers.Integral):
        return {"representation": representations.GeneralDistribution(16, part)}
    if isinstance(part, losses.Term):
        return {"criterion": losses.Criterion([part])}
    return {"criterion": losses.Criterion([losses.BoxTerm(part)])}


@pytest.mark.parametrize("name", sorted(set(PARTS) - ALONE))
def test_a_part_inside_a_detector(name):
    """Of another policy than its own, with its weights."""
    place = place_of(PARTS[name]("float32"))
    model = dense(place)
    again = keras.saving.deserialize_keras_object(as_json(model))
    argument = next(iter(place))
    ours, theirs = getattr(model, argument), getattr(again, argument)
    assert type(theirs) is type(ours)
    assert json_of(theirs.get_config()) == json_of(ours.get_config())
    policies = [
        [layer.dtype_policy.name for layer in m._flatten_layers() if layer.weights]
        for m in (model, again)
    ]
    assert policies[0] == policies[1] and {"mixed_bfloat16", "float32"} <= set(policies[0])
    for one, other in zip(model.weights, again.weights, strict=True):
        assert (one.name, one.shape, one.dtype) == (other.name, other.shape, other.dtype)
    again.set_weights(model.get_weights())
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected, found = to_numpy(model(images)), to_numpy(again(images))
    for key in expected:
        np.testing.assert_allclose(found[key], expected[key], atol=1e-5)


def dense(place):
    arguments = {**SMALL, "head_norm_groups": 4, "dtype": "mixed_bfloat16", **place}
    backbone = arguments.pop("backbone", None) or tiny_backbone()
    return keras_gflv2.DenseDetector(backbone, 3, **arguments)


def test_parts_of_users_are_parts_too():
    """`Part` makes the configuration of any class whose arguments are attributes."""

    @keras.saving.register_keras_serializable("keras_gflv2_tests")
    class Weighted(Part):
        def __init__(self, inner, factors=(1.0, 2.0)):
            self.inner, self.factors = inner, tuple(factors)

    part = Weighted(AnchorGrid(offset=0.5), (3.0,))
    again = keras.saving.deserialize_keras_object(as_json(part))
    assert again.factors == (3.0,) and again.inner.offset == 0.5
