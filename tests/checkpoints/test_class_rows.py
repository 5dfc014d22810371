"""The rows of the classification that a preset keeps when it is loaded with other classes."""

import re

import numpy as np
import pytest
from common import to_numpy

import keras_gflv2


def rows(model):
    return [to_numpy(v) for v in model.head.classification_conv.variables]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["c", "a", "b"], r"kept 3 \(c, a, b\) \(moved"),
        (["dog", "c"], r"kept 1 \(c\) .*start anew 1 \(dog\); 2 left out"),
        (["a", "b", "c", "dog"], r"kept 3 .*start anew 1 \(dog\)"),
        (["cat", "dog", "owl"], r"kept none; start anew 3 \(cat, dog, owl\)"),
    ],
)
def test_class_rows_follow_the_names(names, said, saved, capsys):
    from keras_gflv2.cli.sources import adapt_model

    old = ["a", "b", "c"]
    original = keras_gflv2.GFLV2.from_preset(saved / "preset")
    classes = {"num_classes": len(names), "class_names": names}
    for make in (
        # The number of classes follows from their names.
        lambda: keras_gflv2.GFLV2.from_preset(saved / "preset", class_names=names),
        lambda: adapt_model(original, **classes),
    ):
        capsys.readouterr()
        model = make()
        assert model.class_names == names
        text = capsys.readouterr().out
        assert re.search(said, text), text
        for new, known in zip(rows(model), rows(original)):
            for row, name in enumerate(names):
                if name in old:
                    np.testing.assert_array_equal(new[..., row], known[..., old.index(name)])
                elif new.ndim > 1:
                    assert not any((new[..., row] == known[..., k]).all() for k in range(3))


def test_class_rows_without_names_keep_their_order(saved, capsys):
    original = keras_gflv2.GFLV2.from_preset(saved / "preset")
    model = keras_gflv2.GFLV2.from_preset(saved / "preset", class_names=None)
    assert "keep their order" in capsys.readouterr().out
    np.testing.assert_array_equal(rows(model)[0], rows(original)[0])
    keras_gflv2.GFLV2.from_preset(saved / "preset", num_classes=5)
    assert "start anew" in capsys.readouterr().out
    keras_gflv2.GFLV2.from_preset(saved / "preset", bounding_box_format="xywh")
    assert capsys.readouterr().out == ""


def test_changes_that_the_weights_do_not_fit(saved):
    with pytest.raises(ValueError, match="do not fit the changed arguments"):
        keras_gflv2.GFLV2.from_preset(saved / "preset", fpn_channels=32)
