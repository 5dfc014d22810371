"""The synthetic shapes: seeded, tight boxes, different splits."""

import numpy as np
import pytest

from keras_gflv2.cli.sources import sources_of
from keras_gflv2.data import load_shapes, shapes


def test_shapes_are_seeded_and_splits_differ():
    def images(split, **options):
        ds = load_shapes(split, num_images=4, size=48, batch_size=4, **options)
        return next(iter(ds))["images"].numpy()

    np.testing.assert_array_equal(images("train"), images("train"))
    assert np.abs(images("train") - images("val")).mean() > 10
    assert np.abs(images("train") - images("train", dataset_seed=1)).mean() > 10
    # More pictures leave the first ones as they are.
    more = next(iter(load_shapes("train", num_images=6, size=48, batch_size=4)))["images"]
    np.testing.assert_array_equal(images("train"), more)


def test_batches():
    ds = load_shapes("val", num_images=5, size=(64, 96), batch_size=4)
    assert ds.class_names == ["circle", "square", "triangle"]
    assert ds.element_spec["images"].shape.as_list() == [None, 64, 96, 3]
    batches = list(ds)
    assert [len(batch["images"]) for batch in batches] == [4, 1]
    for batch in batches:
        counts = (batch["bounding_boxes"]["classes"].numpy() >= 0).sum(axis=1)
        assert counts.min() >= 1 and counts.max() <= 6


def test_box_of_a_circle_is_its_diameter():
    angles = np.arange(48) * 2 * np.pi / 48
    polygon = np.array([30, 20]) + 10 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    box = shapes.shape_box({"polygon": polygon}, 64, 64)
    np.testing.assert_allclose(box, [20, 10, 40, 30], atol=0.5)
    beyond = shapes.shape_box({"polygon": polygon - [25, 0]}, 64, 64)
    np.testing.assert_allclose(beyond, [0, 10, 15, 30], atol=0.5)  # Clipped to the picture.


def test_all_three_classes_occur_about_equally():
    ds = load_shapes("train", num_images=100, size=64, batch_size=100)
    classes = next(iter(ds))["bounding_boxes"]["classes"].numpy()
    counts = np.array([(classes == i).sum() for i in range(3)])
    assert counts.min() > 0.6 * counts.mean()


def test_a_shape_stands_out_in_its_box():
    """The front shape of each picture differs from a picture without it exactly inside its box."""
    for index in range(6):
        key = (0, 1, index)
        layout = shapes.draw_layout(key, 96, 96, (1, 6))
        for shape in layout:
            x1, y1, x2, y2 = shapes.shape_box(shape, 96, 96)
            covered = shapes.coverage(shape, 96, 96)[..., 0] > 0
            rows, columns = np.nonzero(covered)
            assert abs(columns.min() - x1) <= 1 and abs(columns.max() + 1 - x2) <= 1
            assert abs(rows.min() - y1) <= 1 and abs(rows.max() + 1 - y2) <= 1


@pytest.mark.parametrize("options", [{"num_images": 0}, {"size": 8}, {"objects": (3, 1)}])
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        load_shapes("train", **options)


@pytest.mark.parametrize("spec", ["shapes:val", "shapes:val:8"])
def test_generated_pictures_are_named_as_data_names_them(spec):
    assert [str(source) for source in sources_of(spec)[0].values()] == [spec]
