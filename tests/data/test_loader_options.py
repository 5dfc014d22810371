"""The options that all loaders share: one set of names, defaults, words and errors."""

import dataclasses
import inspect

import pytest

from keras_gflv2.data import (
    LoaderOptions,
    build_dataset,
    load_coco,
    load_shapes,
    load_tfds,
    load_voc,
)

OPTIONS = {field.name: field.default for field in dataclasses.fields(LoaderOptions)}
# Arguments that are there in every call, of nothing that exists.
CALLS = {
    load_coco: ("nowhere.json", "nowhere"),
    load_shapes: (),
    load_tfds: ("nowhere", "train"),
    load_voc: ("nowhere", "train"),
    build_dataset: ([], None),
}
every_loader = pytest.mark.parametrize("loader", CALLS, ids=lambda loader: loader.__name__)


@every_loader
def test_signature_and_help_have_every_option(loader):
    parameters = inspect.signature(loader).parameters
    defaults = {name: parameters[name].default for name in OPTIONS}
    # A shape's picture stays as large as it is drawn.
    own = {"image_size": None} if loader is load_shapes else {}
    assert defaults == OPTIONS | own
    assert "options" not in parameters
    assert all(f"    {name}: " in loader.__doc__ for name in OPTIONS)


@every_loader
@pytest.mark.parametrize(
    "option, message",
    [
        ({"batch_size": 0}, "`batch_size` must be"),
        ({"bounding_box_format": "xyz"}, "`bounding_box_format` must be"),
        ({"cache": "always"}, "`cache` must be"),
        ({"class_balance": 0.1}, "`class_balance` needs `train=True`"),
        ({"augmentation": 1, "train": True}, "`augmentation` must be"),
        ({"padding_color": (0, 0, 256)}, "`padding_color` must be"),
        ({"image_size": (800, 600)}, "`image_size` is"),
    ],
)
def test_error_names_the_option_before_anything_is_read(loader, option, message):
    with pytest.raises(ValueError, match=message):
        loader(*CALLS[loader], **option)


@every_loader
def test_an_unknown_option_is_named_with_the_one_that_was_meant(loader):
    with pytest.raises(TypeError, match=rf"{loader.__name__}\(\).*'batchsize'.*'batch_size'"):
        loader(*CALLS[loader], batchsize=4)
