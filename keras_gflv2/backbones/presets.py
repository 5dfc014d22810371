"""Backbones with ImageNet weights, by name."""

import dataclasses

from keras_gflv2.checkpoints.presets import Preset, load_published

TORCHVISION = "https://download.pytorch.org/models/"
OPENMMLAB = "https://download.openmmlab.com/pretrain/third_party/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackbonePreset(Preset):
    """Weights of an ImageNet classifier.

    Attributes:
        arguments: constructor arguments of the backbone.
    """

    arguments: dict


def _imagenet(name, arguments, folder, file, license):
    return BackbonePreset(
        name=name,
        description=f"{file.rsplit('-', 1)[0]} trained on ImageNet-1k",
        arguments=arguments,
        url=folder + file,
        file=file,
        # The name of the file carries the first digits.
        digest=file.removesuffix(".pth").rsplit("-", 1)[1],
        license=license,
    )


def _torchvision(depth, digest):
    name, file = f"resnet{depth}_imagenet", f"resnet{depth}-{digest}.pth"
    return _imagenet(name, {"depth": depth}, TORCHVISION, file, "BSD-3-Clause")


def _by_name(*presets):
    return {preset.name: preset for preset in presets}


RESNETS = _by_name(
    _torchvision(18, "f37072fd"),
    _torchvision(34, "b627a593"),
    _torchvision(50, "0676ba61"),
    _torchvision(101, "63fe2227"),
    _torchvision(152, "394f9c45"),
    _imagenet(
        "resnext101_32x4d_imagenet",
        {"depth": 101, "groups": 32, "width_per_group": 4},
        OPENMMLAB,
        "resnext101_32x4d-a5af3160.pth",
        "Apache-2.0",
    ),
)
RES2NETS = _by_name(
    _imagenet(
        "res2net101_v1d_imagenet",
        {"depth": 101, "scales": 4, "base_width": 26},
        OPENMMLAB,
        "res2net101_v1d_26w_4s_mmdetv2-f0a600f9.pth",
        "Apache-2.0",
    ),
)


def load(cls, preset, load_weights, overrides):
    """The backbone of a `BackbonePreset`, with arguments replaced by `overrides`.

    Weights that the published network does not have, offsets of deformable convolutions, start as
    the layer starts them.
    """
    model = cls(**{**preset.arguments, **overrides})
    if not load_weights:
        return model
    plain = cls(**preset.arguments)
    load_published(plain, preset, lambda: cls(**preset.arguments))
    copy_layers(plain, model)
    return model


def copy_layers(source, target):
    """Copies the weights of all layers of a backbone to those of the same names in another."""
    for layer in source.layers:
        if layer.weights:
            _copy(layer, target.get_layer(layer.name))


def _copy(source, target):
    # The layer's own variables come first, so its kernel wins over that of an inner layer.
    variables = {v.name: v for v in reversed(target.weights)}
    for variable in source.weights:
        variables[variable.name].assign(variable)
