"""Batches of an epoch: groups, repetition, few sizes, and a seed that fixes all."""

import numpy as np
import pytest

from keras_gflv2.data import Augmentation, load_shapes
from keras_gflv2.data.sampler import (
    BatchSampler,
    canvas_edges,
    check_image_size,
    repeat_factors,
    short_side_buckets,
)
from keras_gflv2.images import resize_shape

LANDSCAPE, PORTRAIT = (480, 640), (640, 480)


def sampler(sizes, batch_size=4, image_size=(480, 800), train=True, **options):
    return BatchSampler(
        sizes, batch_size, image_size, train, options.pop("shuffle", train), **options
    )


def test_short_side_buckets():
    assert short_side_buckets(480, 960) == [480, 576, 672, 768, 864, 960]
    assert short_side_buckets(640, 800) == [640, 672, 704, 736, 768, 800]
    assert short_side_buckets(240, 300) == [240, 300]  # Both ends, whatever they are.
    assert short_side_buckets(320, 320) == [320]


def test_training_epoch_has_every_image_in_full_batches_of_one_orientation():
    sizes = [LANDSCAPE] * 9 + [PORTRAIT] * 2
    plans = list(sampler(sizes, seed=0)())
    assert len(plans) == sampler(sizes).num_batches == 4  # 3 landscape, 1 portrait
    seen = np.concatenate([plan["indices"][:, 0] for plan in plans])
    assert set(seen) == set(range(11)) and len(seen) == 16
    for plan in plans:
        assert len({tuple(sizes[i]) for i in plan["indices"][:, 0]}) == 1


def test_fewer_images_than_a_batch_still_give_one():
    plans = list(sampler([LANDSCAPE] * 2, batch_size=8, seed=0)())
    assert len(plans) == 1 and len(plans[0]["indices"]) == 8


def test_filling_a_batch_repeats_no_image_as_long_as_there_are_others():
    for seed in range(10):
        plans = list(sampler([LANDSCAPE] * 6, seed=seed)())
        for plan in plans:
            assert len(set(plan["indices"][:, 0])) == 4


def test_epochs_differ_and_runs_agree():
    first, second = (sampler([LANDSCAPE] * 40, seed=3) for _ in range(2))
    epochs = [[p["indices"][:, 0].tolist() for p in s()] for s in (first, first, second, second)]
    assert epochs[0] == epochs[2] and epochs[1] == epochs[3]
    assert epochs[0] != epochs[1]


def test_one_size_gets_exactly_its_canvas():
    one = sampler([LANDSCAPE] * 5, image_size=(240, 320))
    assert one.canvas_sizes == [(256, 320)]


@pytest.mark.parametrize(
    ("short", "longest", "largest", "expected"),
    [
        (480, 1333, None, [480, 640, 1344]),  # 1:1, 4:3 and the longest side
        (500, 1333, None, [512, 672, 1344]),  # rounded up to multiples of 32
        (800, 800, None, [800]),  # nothing is longer
        (480, 600, None, [480, 608]),  # 4:3 is cut at the longest side
        (480, 1333, 960, [480, 640, 960]),  # no image reaches the longest side
        (480, 1333, 640, [480, 640]),
        (480, 1333, 512, [480, 512]),
    ],
)
def test_edges_of_canvases(short, longest, largest, expected):
    assert canvas_edges(short, longest, largest) == expected


def test_canvases_are_few_and_cover():
    random = np.random.default_rng(0)
    sizes = random.integers(200, 900, (300, 2))
    many = sampler(sizes, image_size=((480, 800), 1333), seed=1)
    used = set()
    for plan in many():
        canvas = plan["canvas"][0]
        used.add(tuple(canvas))
        assert (plan["canvas"] == canvas).all() and (
            plan["image_size"] == plan["image_size"][0]
        ).all()
        short, longest = plan["image_size"][0]
        for index in plan["indices"][:, 0]:
            assert (resize_shape(sizes[index], (short, longest)) <= canvas).all()
        largest = {edge for edge in canvas if edge not in canvas_edges(short, longest)}
        assert all(edge % 32 == 0 and edge <= 1344 for edge in largest)
    assert used <= set(many.canvas_sizes)
    assert len(many.short_sides) == 6 and len(many.canvas_sizes) <= 9 * 6


def test_quarter_turns_transpose_the_canvas():
    turned = sampler([LANDSCAPE] * 400, image_size=(240, 320), rotate90=0.5, seed=0)
    assert turned.canvas_sizes == [(256, 320), (320, 256)]
    plans = list(turned())
    turns = np.array([plan["quarter_turn"][0] for plan in plans])
    assert 0.3 < turns.mean() < 0.7
    for plan in plans:
        expected = [320, 256] if plan["quarter_turn"][0] else [256, 320]
        np.testing.assert_array_equal(plan["canvas"][0], expected)


@pytest.mark.parametrize("image_size", [800, (800,), (0, 10), (800, 600), ("a", 5), ((9, 8), 9)])
def test_image_size_is_checked(image_size):
    with pytest.raises(ValueError, match="`image_size`"):
        check_image_size(image_size, train=True)


def test_a_range_of_sizes_needs_training():
    with pytest.raises(ValueError, match="train=True"):
        check_image_size(((480, 960), 1333), train=False)


def test_datasets_with_one_seed_agree_and_reshuffle():
    def epoch_ids(ds):
        return [batch["image_ids"].numpy().tolist() for batch in ds]

    first, second = (
        load_shapes("train", num_images=12, size=32, batch_size=4, train=True, seed=5)
        for _ in range(2)
    )
    batches = [list(ds) for ds in (first, second)]
    for one, other in zip(*batches):
        np.testing.assert_array_equal(one["images"], other["images"])
        np.testing.assert_array_equal(
            one["bounding_boxes"]["boxes"], other["bounding_boxes"]["boxes"]
        )
    second_epoch = epoch_ids(first)
    assert second_epoch != [batch["image_ids"].numpy().tolist() for batch in batches[0]]
    second.set_epoch(1)
    assert epoch_ids(second) == second_epoch  # To resume at epoch 1.


def test_the_digest_is_that_of_the_images_and_their_boxes():
    def digest(**options):
        return load_shapes("train", **{"num_images": 4, "size": 32, **options}).digest

    assert digest() == digest(batch_size=2, train=True, seed=9)
    others = [digest(num_images=5), digest(size=64), digest(objects=(5, 5))]
    assert len({digest(), *others}) == 4


def test_mosaics_end_with_their_epochs():
    mosaics = sampler([LANDSCAPE] * 8, seed=0, mosaic=1.0, mosaic_epochs=2)
    shown = [all(plan["mosaic"].all() for plan in mosaics()) for _ in range(3)]
    assert shown == [True, True, False]
    mosaics.set_position(2)
    assert not any(plan["mosaic"].any() for plan in mosaics())
    with pytest.raises(ValueError, match="mosaic_epochs"):
        Augmentation(mosaic_epochs=-1)


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.slow), 4])
def test_shards_make_up_the_batches_of_one_process(count):
    """The same pixels too: mosaic and turns are planned for the whole batch."""
    options = {
        "num_images": 10, "size": (40, 56), "batch_size": 4, "train": True, "seed": 7,
        "augmentation": Augmentation(rotate90=0.5, mosaic=0.5, scale=(0.7, 1.4), hue=0.1),
    }  # fmt: skip
    whole = load_shapes("train", **options)
    parts = [load_shapes("train", shard=(i, count), **options) for i in range(count)]
    assert whole.shard_position == (0, 1) and parts[1].shard_position == (1, count)
    for batch, *pieces in zip(whole, *parts, strict=True):
        for name in ("images", "image_ids", "image_sizes"):
            together = np.concatenate([piece[name] for piece in pieces])
            np.testing.assert_array_equal(together, batch[name])
        boxes = np.concatenate([piece["bounding_boxes"]["boxes"] for piece in pieces])
        np.testing.assert_array_equal(boxes, batch["bounding_boxes"]["boxes"])
    assert parts[1].images_of(0, 1) == whole.images_of(0, 1)


def test_shards_are_checked():
    with pytest.raises(ValueError, match="multiple of their number, 3"):
        load_shapes("train", num_images=4, batch_size=4, train=True, shard=(0, 3))
    for shard in ((2, 2), "all", (1,)):
        with pytest.raises(ValueError, match="`shard`"):
            load_shapes("train", num_images=4, batch_size=4, train=True, shard=shard)
    # Evaluation sees every image in each process.
    assert load_shapes("val", num_images=4, batch_size=4, shard=(1, 2)).shard_position == (0, 1)


def test_repeat_factors_are_those_of_the_paper():
    """LVIS: sqrt(t / f) of the rarest class of an image; 1 for classes above t."""
    classes = [[0]] * 96 + [[0, 1]] * 3 + [[1, 2, 2]]
    factors = repeat_factors([np.array(c) for c in classes], 3, 0.09)
    np.testing.assert_allclose(factors[:96], 1)
    np.testing.assert_allclose(factors[96:99], 1.5)  # sqrt(0.09 / 0.04)
    assert factors[99] == pytest.approx(3)  # sqrt(0.09 / 0.01)
    assert repeat_factors([np.array([], int)], 3, 0.5).tolist() == [1]


def test_rare_images_are_repeated_and_none_is_left_out():
    repeats = np.ones(40)
    repeats[:4] = 2.5
    balanced = sampler([LANDSCAPE] * 40, seed=0, repeats=repeats)
    counts = np.zeros(40)
    epochs = 200
    for _ in range(epochs):
        plans = list(balanced())
        assert len(plans) == balanced.num_batches == 12  # 36 + 4 * 2.5 = 46 images
        seen = np.bincount(np.concatenate([p["indices"][:, 0] for p in plans]), minlength=40)
        assert seen[4:].min() >= 1 and seen[:4].min() >= 2
        counts += seen
    np.testing.assert_allclose(counts[:4] / epochs, 2.5, atol=0.25)


def test_class_balance_shows_rare_classes_more_often():
    images = 60
    ds = load_shapes(
        "train", num_images=images, size=32, objects=(1, 1), batch_size=4, train=True, seed=0,
        class_balance=1.0,
    )  # fmt: skip
    plain = load_shapes("train", num_images=images, size=32, objects=(1, 1), batch_size=4)

    def frequencies(dataset):
        classes = np.concatenate([b["bounding_boxes"]["classes"].numpy() for b in dataset])
        return np.bincount(classes[classes >= 0], minlength=3) / np.sum(classes >= 0)

    fractions = frequencies(plain)
    expected = np.sqrt(fractions) / np.sqrt(fractions).sum()
    np.testing.assert_allclose(frequencies(ds), expected, atol=0.04)
    assert len(ds) > len(plain)
    with pytest.raises(ValueError, match="class_balance"):
        load_shapes("train", num_images=4, train=True, class_balance=2.0)
    with pytest.raises(ValueError, match="train=True"):
        load_shapes("val", num_images=4, class_balance=0.1)
