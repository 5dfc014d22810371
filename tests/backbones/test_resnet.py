import numpy as np
import pytest
from common import to_numpy

from keras_gflv2.backbones import ResNet


@pytest.mark.parametrize(
    "depth, parameters",
    # torchvision's counts of all parameters, less the classifier's 512 or 2048 x 1000 + 1000.
    [(18, 11_689_512 - 513_000), (34, 21_797_672 - 513_000), (50, 25_557_032 - 2_049_000)],
)
def test_it_has_the_parameters_of_torchvisions(depth, parameters):
    model = ResNet(depth)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == parameters


def test_levels_have_their_strides_and_widths():
    outputs = ResNet(50, base_channels=8)(np.zeros((1, 64, 96, 3), "float32"))
    assert {k: tuple(v.shape) for k, v in outputs.items()} == {
        "P3": (1, 8, 12, 64),
        "P4": (1, 4, 6, 128),
        "P5": (1, 2, 3, 256),
    }


def test_batch_statistics_are_used_in_training_only_when_asked_for():
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    for statistics, differs in (("running", False), ("batch", True)):
        model = ResNet(
            18, base_channels=8, batch_norm_statistics=statistics, zero_init_residual=False
        )
        calm = to_numpy(model(images, training=False)["P3"])
        train = to_numpy(model(images, training=True)["P3"])
        assert np.array_equal(calm, train) != differs
        moved = to_numpy(model.get_layer("bn1").moving_mean)
        assert np.any(moved != 0) == differs


def test_residual_branches_start_at_zero_when_trained_from_nothing():
    def last_scales(**arguments):
        model = ResNet(18, base_channels=8, **arguments)
        return {
            float(to_numpy(layer.gamma)[0]) for layer in model.layers if layer.name.endswith("bn2")
        }

    assert last_scales(batch_norm_statistics="batch") == {0.0}
    assert last_scales(batch_norm_statistics="batch", zero_init_residual=False) == {1.0}
    assert last_scales(batch_norm_statistics="running") == {1.0}


def test_pixels_are_normalised_inside():
    one = ResNet(18, base_channels=8, pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
    two = ResNet(18, base_channels=8)
    two.set_weights(one.get_weights())
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    normalised = (image - np.float32(two.pixel_mean)) / np.float32(two.pixel_std)
    np.testing.assert_allclose(
        to_numpy(two(image)["P3"]), to_numpy(one(normalised)["P3"]), rtol=1e-4, atol=1e-4
    )


def test_caffe_style_sees_bgr_less_its_mean():
    """The reverse of an RGB network whose first convolution has its channels reversed."""
    caffe = ResNet(18, base_channels=8, style="caffe")
    plain = ResNet(18, base_channels=8, pixel_std=(1, 1, 1))
    weights = caffe.get_weights()
    assert weights[0].shape == (7, 7, 3, 8)
    plain.set_weights([weights[0][:, :, ::-1], *weights[1:]])
    image = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    for level, expected in plain(image).items():
        np.testing.assert_allclose(
            to_numpy(caffe(image)[level]), to_numpy(expected), rtol=1e-4, atol=1e-3
        )
    assert caffe.pixel_mean == plain.pixel_mean  # RGB, as what is outside of an image is padded
    copy = ResNet.from_config(caffe.get_config())
    assert (copy.style, copy.pixel_std) == ("caffe", (1.0, 1.0, 1.0))


def test_caffe_style_strides_in_the_first_convolution_of_a_bottleneck():
    for style, strides in (("caffe", [(2, 2), (1, 1)]), ("pytorch", [(1, 1), (2, 2)])):
        model = ResNet(50, base_channels=8, style=style)
        for stage in (2, 3, 4):
            convs = [model.get_layer(f"layer{stage}_0_conv{i}") for i in (1, 2)]
            assert [tuple(conv.strides) for conv in convs] == strides


def test_configurations_without_a_style_are_pytorchs():
    config = ResNet(18, base_channels=8).get_config()
    del config["style"]
    assert ResNet.from_config(config).style == "pytorch"


@pytest.mark.parametrize("stages", [-1, 0, 2, 4])
def test_frozen_stages_leave_the_rest_trainable(stages):
    model = ResNet(18, base_channels=8, frozen_stages=stages)
    trainable = {v.path.split("/")[-2] for v in model.trainable_variables}
    for name in ("conv1", "layer1_0_conv1", "layer2_0_conv1", "layer4_1_conv2"):
        stage = 0 if name == "conv1" else int(name[5])
        assert (name in trainable) == (stage > stages)
    copy = ResNet.from_config(model.get_config())
    assert len(copy.trainable_variables) == len(model.trainable_variables)


@pytest.mark.parametrize(
    "arguments",
    [
        {"depth": 19},
        {"frozen_stages": 5},
        {"batch_norm_statistics": "live"},
        {"style": "tensorflow"},
    ],
)
def test_it_refuses(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ResNet(**arguments)
