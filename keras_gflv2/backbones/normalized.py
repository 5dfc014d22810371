"""A backbone of another library, behind the normalization that its weights were trained with."""

from collections.abc import Sequence

import keras

from keras_gflv2.annotations import DType
from keras_gflv2.backbones.pyramid import feature_extractor


@keras.saving.register_keras_serializable(package="keras_gflv2")
class NormalizedBackbone(keras.Model):
    """A backbone that gets `pixels * scale + offset` instead of the pixels.

    Detectors give their backbones RGB in 0..255, and pad images with the color that becomes zero,
    as the convolutions pad their maps. `load_backbone` makes one of these for each backbone of
    KerasCV and KerasHub.

    Args:
        backbone: a Keras model with pyramid outputs, as `DenseDetector` takes it.
        scale, offset: numbers, or three of them, for red, green and blue.
        name, trainable, dtype: as in `keras.Model`. The backbone has a dtype policy of its own.

    Attributes:
        pixel_mean: RGB in 0..255 that becomes zero, or what is nearest to it.

    Raises:
        ValueError: the backbone has no pyramid outputs, or a scale is 0.

    >>> hub = keras_hub.models.Backbone.from_preset("resnet_50_imagenet")
    >>> converter = keras_hub.layers.ImageConverter.from_preset("resnet_50_imagenet")
    >>> backbone = NormalizedBackbone(hub, converter.scale, converter.offset)
    """

    def __init__(
        self,
        backbone: keras.Model,
        scale: float | Sequence[float] = 1.0,
        offset: float | Sequence[float] = 0.0,
        name: str = "normalized_backbone",
        trainable: bool = True,
        dtype: DType = None,
    ):
        self._check(scale, offset)
        images = keras.Input((None, None, 3), name="images")
        rescaling = keras.layers.Rescaling(scale, offset, dtype="float32", name="rescaling")
        super().__init__(images, feature_extractor(backbone)(rescaling(images)), name=name)
        # Keras does not take it from a functional model's arguments.
        self.dtype_policy = keras.dtype_policies.get(dtype)
        self.backbone = backbone
        self.scale, self.offset = scale, offset
        self.pixel_mean = tuple(
            min(max(-o / s, 0.0), 255.0) for s, o in zip(_three(scale), _three(offset))
        )
        if not trainable:
            self.trainable = False

    @staticmethod
    def _check(scale, offset):
        if len(_three(scale)) != 3 or len(_three(offset)) != 3 or 0.0 in _three(scale):
            raise ValueError(
                "`scale` and `offset` must be numbers, or three for red, green and blue, and no "
                f"scale 0. Received: scale={scale!r}, offset={offset!r}"
            )

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "scale": self.scale,
            "offset": self.offset,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        for name in ("backbone", "dtype"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)


def _three(value):
    """A number for each channel."""
    values = value if isinstance(value, (list, tuple)) else (value,) * 3
    return tuple(float(v) for v in values)
