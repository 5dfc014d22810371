"""Batches of an epoch: groups, repetition, few sizes, and a seed that fixes all."""

import numpy as np
import pytest

from keras_gflv2.data import load_shapes
from keras_gflv2.data.sampler import (
    BatchSampler,
    canvas_edges,
    check_image_size,
    short_side_buckets,
)

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


def test_canvases_are_few_and_cover():
    random = np.random.default_rng(0)
    sizes = random.integers(200, 900, (300, 2))
    many = sampler(sizes, image_size=((480, 800), 1333), seed=1)
    edges = {e for short in many.short_sides for e in canvas_edges(short, 1333)}
    used = set()
    for plan in many():
        canvas = plan["canvas"][0]
        used.add(tuple(canvas))
        assert (plan["canvas"] == canvas).all() and (canvas % 32 == 0).all()
        assert (plan["image_size"] == plan["image_size"][0]).all()
    assert used <= set(many.canvas_sizes)
    assert len({size for size in many.canvas_sizes}) <= 9 * 6
    assert edges  # the edges of 1:1, 4:3 and longest:short


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
