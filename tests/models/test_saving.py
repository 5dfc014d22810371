"""What is set on a detector is there again after saving, in each of the ways to save one."""

import keras
import numpy as np
import pytest
from common import random_batch, small_model, to_numpy

import keras_gflv2
from keras_gflv2 import assigners, losses, postprocessing, recipes
from keras_gflv2.backbones import ResNet

RUN_EAGERLY = keras.backend.backend() == "tensorflow"


@pytest.fixture(autouse=True)
def _restore_policy():
    yield
    keras.config.set_dtype_policy("float32")


def detector(**kwargs):
    return small_model(
        backbone=ResNet(18, base_channels=8, **kwargs.pop("of_backbone", {})), **kwargs
    )


def through_file(model, folder, **kwargs):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras", **kwargs)


def through_preset(model, folder):
    model.save_to_preset(folder / "preset")
    return keras_gflv2.GFLV2.from_preset(folder / "preset")


WAYS = [
    through_file,
    through_preset,
    lambda model, folder: keras_gflv2.GFLV2.from_config(model.get_config()),
]


def settings(model):
    """Policy of every layer with weights, and whether it trains; the same of every weight."""
    # keras.models.clone_model makes plain functional models of models: they say nothing here.
    inside = [
        layer
        for layer in model._flatten_layers()
        if layer.weights and not isinstance(layer, keras.Model)
    ]
    return (
        [(layer.dtype_policy.name, layer.trainable) for layer in inside],
        [weight.trainable for weight in model.weights],
    )


# === Frozen layers and dtype policies ===


def freeze_head_but_one_layer(model):
    model.head.trainable = False
    model.head.classification_conv.trainable = True


def set_single_layers(model):
    model.backbone.get_layer("layer2_0_conv1").trainable = False
    model.feature_pyramid.lateral_convs[1].trainable = False
    model.head.quality_predictor.hidden.trainable = False
    model.head.box_convs[0].dtype_policy = "mixed_bfloat16"
    model.backbone.get_layer("layer3_1_conv2").dtype_policy = "mixed_float16"


def freeze_all_but_the_pyramid(model):
    model.trainable = False
    model.feature_pyramid.trainable = True


def train_frozen_stages(model):
    # On TensorFlow, Keras takes no notice of a value that is the old one.
    model.backbone.trainable = False
    model.backbone.trainable = True


@pytest.mark.parametrize(
    "change",
    [
        freeze_head_but_one_layer,
        set_single_layers,
        freeze_all_but_the_pyramid,
        train_frozen_stages,
    ],
)
def test_settings_of_layers_survive(change, tmp_path):
    model = detector(of_backbone={"frozen_stages": 1})
    untouched = settings(model)
    change(model)
    expected = settings(model)
    assert expected != untouched
    for way in WAYS:
        loaded = way(model, tmp_path)
        assert settings(loaded) == expected
        assert len(loaded.trainable_variables) == len(model.trainable_variables)
    assert loaded.get_config() == model.get_config()
    assert settings(keras.models.clone_model(model)) == expected


def test_settings_of_a_foreign_backbone_survive(tmp_path):
    """A model of several levels whose layers have names that Keras made up."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = small_model(dtype="float32")
    keras.config.set_dtype_policy("float32")
    model.backbone.layers[3].trainable = False
    model.backbone.layers[4].dtype_policy = "float32"
    for way in WAYS:
        assert settings(way(model, tmp_path)) == settings(model)
    model.backbone.trainable = False
    model.backbone.layers[2].trainable = True
    assert settings(through_file(model, tmp_path)) == settings(model)


@pytest.mark.parametrize(
    "policy, of_backbone",
    [
        ("mixed_float16", "mixed_float16"),
        ("mixed_bfloat16", "float32"),
        ("float32", "mixed_bfloat16"),
        ("float64", "float64"),
    ],
)
def test_policies_are_those_that_were_saved(policy, of_backbone, tmp_path):
    """Whatever the global policy is when the detector is loaded."""
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has float64 where jax_enable_x64 is set")
    model = detector(dtype=policy, of_backbone={"dtype": of_backbone})
    convolutions = {layer.dtype_policy.name for layer in model.head.classification_convs}
    assert model.dtype_policy.name == model.head.dtype_policy.name == policy
    assert convolutions == {policy}
    assert model.backbone.get_layer("conv1").dtype_policy.name == of_backbone
    keras.config.set_dtype_policy("mixed_bfloat16" if policy != "mixed_bfloat16" else "float32")
    for way in (through_file, through_preset):
        loaded = way(model, tmp_path)
        assert settings(loaded) == settings(model)
        assert loaded.dtype_policy.name == policy
    outputs = loaded(random_batch(size=(32, 32))["images"])
    assert {keras.backend.standardize_dtype(v.dtype) for v in outputs.values()} == {"float32"}


def policies(model):
    return {
        layer.dtype_policy.name
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Conv2D)
    }


def test_a_policy_for_a_preset_holds_for_all_parts(tmp_path):
    model = keras_gflv2.GFLV2.from_preset("nano_bccd", dtype="mixed_bfloat16")
    assert policies(model) == {"mixed_bfloat16"}
    assert model.head.quality_predictor.dtype_policy.name == "float32"
    model.save_to_preset(tmp_path)
    assert policies(keras_gflv2.GFLV2.from_preset(tmp_path)) == {"mixed_bfloat16"}
    assert policies(keras_gflv2.GFLV2.from_preset(tmp_path, dtype="float32")) == {"float32"}
    small_model().save_to_preset(tmp_path)  # with a backbone of Keras
    loaded = keras_gflv2.GFLV2.from_preset(tmp_path, dtype="mixed_float16")
    assert policies(loaded) == {"mixed_float16"}


def test_built_in_presets_have_the_global_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    for preset in ("nano_bccd", "r50_coco"):
        model = keras_gflv2.GFLV2.from_preset(preset, load_weights=False)
        assert policies(model) == {"mixed_bfloat16"}


# === Parts ===


@keras.saving.register_keras_serializable("keras_gflv2_tests")
class Nearest(assigners.ATSSAssigner):
    """Registered by its user, with an argument of its own."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def test_parts_and_names_survive(tmp_path):
    model = small_model(
        assigner=assigners.ATSSAssigner(topk=5),
        class_names=["a", "b", "c"],
        image_size=(96, 128),
        bounding_box_format="rel_yxyx",
        name="mine",
    )
    model.preset = {"name": "nano_bccd", "ap_val": None}
    for change in (lambda: None, lambda: setattr(model, "assigner", Nearest(2.0, topk=3))):
        change()
        model.prediction_decoder = postprocessing.PredictionDecoder(0.1, max_detections=7)
        loaded = through_file(model, tmp_path)
        assert type(loaded.assigner) is type(model.assigner)
        assert loaded.get_config()["assigner"] == model.get_config()["assigner"]
        assert loaded.prediction_decoder.max_detections == 7
        assert loaded.preset == model.preset
        for name in ("name", "class_names", "image_size", "bounding_box_format"):
            assert getattr(loaded, name) == getattr(model, name)


def test_a_part_that_cannot_be_saved_is_named(tmp_path):
    class Assigner:
        def __call__(self, *args):
            return None

    with pytest.raises(ValueError, match=r"`assigner` cannot be saved.*get_config"):
        small_model(assigner=Assigner()).save(tmp_path / "model.keras")


def test_several_views_of_a_detector_survive(tmp_path):
    views = postprocessing.TestTimeAugmentation(small_model(), (0.5, 1.0), False, True)
    loaded = through_file(views, tmp_path)
    assert (loaded.scales, loaded.flips, loaded.box_voting) == ((0.5, 1.0), False, True)
    for one, other in zip(views.model.get_weights(), loaded.model.get_weights(), strict=True):
        np.testing.assert_array_equal(other, one)


# === How it was compiled ===


def adamw():
    return keras.optimizers.AdamW(recipes.WarmUpCosine(0.01, 0, 9), weight_decay=0.1)


@pytest.mark.parametrize(
    "policy, options",
    [
        ("float32", {"optimizer": lambda: recipes.SGDWithL2(0.01), "recompute": True}),
        ("float32", {"recipe": "finetune"}),
        ("mixed_float16", {"recipe": "finetune"}),
        (
            "mixed_bfloat16",
            {
                "optimizer": lambda: keras.optimizers.Adam(
                    1e-3,
                    use_ema=True,
                    ema_momentum=0.5,
                    gradient_accumulation_steps=2,
                    clipnorm=1.0,
                )
            },
        ),
    ],
)
def test_training_goes_on_after_loading(policy, options, tmp_path):
    """Two steps, saved and loaded, and one more are three steps."""
    model = small_model(dtype=policy)
    options = {key: value() if callable(value) else value for key, value in options.items()}
    model.compile(**options, run_eagerly=RUN_EAGERLY)
    batch = random_batch(size=(64, 64))
    model.fit(batch, epochs=2, batch_size=2, shuffle=False, verbose=0)
    loaded = through_file(model, tmp_path)
    inner = getattr(loaded.optimizer, "inner_optimizer", loaded.optimizer)
    assert isinstance(loaded.optimizer, keras.optimizers.LossScaleOptimizer) == (
        policy == "mixed_float16"
    )
    assert int(to_numpy(inner._iterations)) == 2
    assert loaded.head.recomputes == model.head.recomputes == options.get("recompute", False)
    if "recipe" in options:  # which adapts its averages to the training
        assert inner.ema_momentum == recipes.finetune(2, 2, epochs=2).averaging_momentum
    for detector in (model, loaded):
        detector.fit(batch, epochs=1, batch_size=2, shuffle=False, verbose=0)
    for one, other in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_allclose(to_numpy(other), to_numpy(one), rtol=1e-4, atol=1e-6)
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6)


def test_variables_without_weight_decay_stay_so(tmp_path):
    model = small_model()
    by_list, by_name = adamw(), adamw()
    by_list.exclude_from_weight_decay([v for v in model.trainable_variables if len(v.shape) < 2])
    by_name.exclude_from_weight_decay(var_names=["kernel"])
    for optimizer in (by_list, keras.optimizers.LossScaleOptimizer(by_name)):
        model.compile(optimizer)
        loaded = through_file(model, tmp_path)
        decays = [
            [
                getattr(m.optimizer, "inner_optimizer", m.optimizer)._use_weight_decay(v)
                for v in m.trainable_variables
            ]
            for m in (model, loaded)
        ]
        assert decays[0] == decays[1] and len(set(decays[0])) == 2


def test_a_recipe_keeps_what_its_optimizer_has_become(tmp_path):
    """Also a user's own: its schedule and averages were fitted to the data, then changed."""
    mine = recipes.Recipe("mine", "of a user", 3, False, 0.5, 7, ema=0.9)
    for recipe in ("finetune", mine):
        model = small_model()
        model.compile(recipe=recipe, steps_per_execution=2, loss_weights={"box": 0.5})
        recipes.get(recipe).plan(8, 2, epochs=10).apply_to(model.optimizer)
        assert model.optimizer.ema_momentum == pytest.approx(0.5)
        loaded = through_file(model, tmp_path)
        assert loaded._recipe == recipes.get(recipe)
        assert loaded.optimizer.get_config() == model.optimizer.get_config()
        assert loaded.steps_per_execution == 2
        assert loaded.get_compile_config()["loss_weights"] == {"box": 0.5}


@keras.saving.register_keras_serializable("keras_gflv2_tests")
def absolute_error(y_true, y_pred):
    return keras.ops.absolute(y_true - y_pred)


@pytest.mark.filterwarnings("ignore:.box_loss. can be trained")
def losses_of(model):
    """{name of a term: the loss that it is trained with}"""
    return {term.name: term.loss for term in model._trained_criterion.terms}


def test_losses_survive_or_are_named(tmp_path):
    model = small_model()
    focal = keras.losses.BinaryFocalCrossentropy(gamma=3.0, reduction="sum")
    for box_loss, expected in (
        (keras.losses.Huber(delta=2.5), {"delta": 2.5}),
        ("log_cosh", None),
        (absolute_error, None),
        (losses.GIoULoss(epsilon=1e-3), {"epsilon": 1e-3}),
    ):
        model.compile("sgd", classification_loss=focal, box_loss=box_loss)
        loaded = through_file(model, tmp_path)
        assert losses_of(loaded)["classification"].gamma == 3.0
        ours, theirs = (losses_of(m)["box"] for m in (model, loaded))
        assert type(ours) is type(theirs)
        if expected:
            config = {**getattr(theirs, "_fn_kwargs", {}), **theirs.get_config()}
            assert expected.items() <= config.items()
        else:
            assert ours is theirs


def test_losses_that_will_not_load_are_said(tmp_path):
    def mine(y_true, y_pred):
        return absolute_error(y_true, y_pred)

    model = small_model()
    for loss, name in ((mine, "mine"), (lambda a, b: absolute_error(a, b), "<lambda>")):
        with pytest.warns(UserWarning, match=f"`box_loss`.*'{name}' is not registered"):
            model.compile("sgd", box_loss=loss)
        model.save(tmp_path / "model.keras")
        with pytest.raises(ValueError, match=f"`box_loss`.*'{name}'.*compile=False"):
            keras.saving.load_model(tmp_path / "model.keras")
        assert not keras.saving.load_model(tmp_path / "model.keras", compile=False).compiled
    model.compile("sgd", box_loss=absolute_error)
