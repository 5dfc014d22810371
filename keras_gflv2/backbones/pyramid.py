"""Any kind of backbone in, a model from images to {"P3", "P4", "P5"} out."""

import keras

LEVELS = ("P3", "P4", "P5")


def pyramid_maps(backbone):
    """{level: symbolic map} of all levels that a backbone of any kind has; {} where it has none."""
    outputs = None
    if hasattr(backbone, "pyramid_outputs"):  # KerasHub
        outputs = backbone.pyramid_outputs
    elif hasattr(backbone, "pyramid_level_inputs"):  # KerasCV
        outputs = {
            level: backbone.get_layer(name).output
            for level, name in backbone.pyramid_level_inputs.items()
        }
    elif isinstance(getattr(backbone, "output", None), dict):
        outputs = backbone.output
    return {f"P{k}" if isinstance(k, int) else k: v for k, v in (outputs or {}).items()}


def feature_extractor(backbone):
    """A model from images to {"P3", "P4", "P5"}, out of any of the kinds of backbone."""
    outputs = pyramid_maps(backbone)
    missing = [level for level in LEVELS if level not in outputs]
    if missing:
        raise ValueError(
            "`backbone` must be a Keras model with the outputs P3, P4 and P5 (a dictionary, "
            "`pyramid_level_inputs` as KerasCV's or `pyramid_outputs` as KerasHub's); "
            f"{missing} missing in {type(backbone).__name__}."
        )
    taken = backbone.inputs[0].shape
    if len(taken) != 4 or taken[-1] != 3:
        raise ValueError(
            f"`backbone` must take images (B, H, W, 3), channels last; {type(backbone).__name__} "
            f"takes {tuple(taken)}. Where keras.json says channels_first, build it with "
            '`data_format="channels_last"`, or first call '
            '`keras.config.set_image_data_format("channels_last")`.'
        )
    if list(outputs) == list(LEVELS) and isinstance(getattr(backbone, "output", None), dict):
        return backbone
    return keras.Model(
        backbone.inputs[0], {level: outputs[level] for level in LEVELS}, name="features"
    )
