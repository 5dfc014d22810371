"""Tiles of large images: what they cover, and one set of detections from those of all tiles."""

import numpy as np
import pytest

from keras_gflv2.tiles import merge_tiles, tiles_of

TILE, OVERLAP = 100, 0.3


@pytest.mark.parametrize(
    "size, tile, overlap",
    [((230, 470), 100, 0.3), ((100, 101), 100, 0), ((500, 90), (70, 80), 0.5)],
)
def test_tiles_cover_the_image_and_overlap_enough(size, tile, overlap):
    tiles = tiles_of(size, tile, overlap)
    height, width = np.broadcast_to(tile, 2)
    seen = np.zeros(size, int)
    for one in tiles:
        left, top, right, bottom = one.box
        assert bottom - top == min(height, size[0]) and right - left == min(width, size[1])
        one.cut_from(seen)[:] += 1  # a view
        others = [other.box for other in tiles if other.box[1] == top and other.box[0] > left]
        if others:  # the next one in its row
            shared = right - min(other[0] for other in others)
            assert shared >= overlap * width - 1 and one.shared[2] == shared
        else:
            assert right == size[1] and np.isinf(one.shared[2])
    assert seen.min() >= 1


def test_a_small_image_is_one_tile_and_wrong_sizes_are_named():
    (one,) = tiles_of((50, 100), 100)
    assert one.box == (0, 0, 100, 50) and np.isinf(one.shared).all()
    with pytest.raises(ValueError, match="`tile`"):
        tiles_of((50, 100), 0)
    with pytest.raises(ValueError, match="`overlap`"):
        tiles_of((500, 100), 100, 1.0)


def look(tiles, boxes, classes, rng, least=0.2):
    """What a detector sees of true boxes in each tile: their parts in it, if they are not small."""
    found = []
    for tile in tiles:
        frame = np.float32(tile.box)
        parts = np.concatenate(
            [np.maximum(boxes[:, :2], frame[:2]), np.minimum(boxes[:, 2:], frame[2:])], axis=1
        )
        sides = np.maximum(parts[:, 2:] - parts[:, :2], 0)
        is_seen = sides.prod(1) > least * (boxes[:, 2:] - boxes[:, :2]).prod(1)
        inside = parts[is_seen] + rng.normal(0, 0.2, (is_seen.sum(), 4))
        # A box ends where its tile does.
        inside = np.clip(inside, np.tile(frame[:2], 2), np.tile(frame[2:], 2))
        found.append(
            {
                "boxes": (inside - np.tile(frame[:2], 2)).astype("float32"),
                "classes": classes[is_seen],
                "confidence": rng.uniform(0.6, 0.9, is_seen.sum()).astype("float32"),
                "uncertainties": np.full((is_seen.sum(), 4), 1.0, "float32"),
            }
        )
    return found


def spread_boxes(rng, size, sides, gap=6):
    """Boxes that have some distance from each other, of random sides, and their classes."""
    boxes = []
    for _ in range(3000):
        extent = rng.uniform(*sides, 2)
        corner = rng.uniform(0, np.maximum(np.array(size[::-1]) - extent, 1))
        box = np.concatenate([corner, corner + extent])
        apart = [
            box[0] > o[2] + gap or o[0] > box[2] + gap or box[1] > o[3] + gap or o[1] > box[3] + gap
            for o in boxes
        ]
        if all(apart):
            boxes.append(box)
    boxes = np.float32(boxes)
    return boxes, rng.integers(0, 2, len(boxes))


@pytest.mark.parametrize("sides", [(8, 28), (40, 90), (90, 180)], ids=["small", "cut", "of tiles"])
def test_every_object_is_found_once_and_whole(sides):
    """Whether they are smaller than the overlap, larger, or larger than a tile."""
    rng = np.random.default_rng(0)
    size = (640, 800)
    boxes, classes = spread_boxes(rng, size, sides)
    assert len(boxes) >= 8
    tiles = tiles_of(size, TILE, OVERLAP)
    least = 0.2 if sides[1] < TILE else 0.02
    merged = merge_tiles(tiles, look(tiles, boxes, classes, rng, least))
    assert len(merged["boxes"]) == len(boxes)
    order = [np.abs(boxes - box).sum(1).argmin() for box in merged["boxes"]]
    assert sorted(order) == list(range(len(boxes)))
    np.testing.assert_allclose(merged["boxes"], boxes[order], atol=2.5)
    np.testing.assert_array_equal(merged["classes"], classes[order])
    assert (np.diff(merged["confidence"]) <= 0).all()


def found_in(tiles, *detections):
    """Detections (tile, box in pixels of the image, confidence, uncertainty) of class 0."""
    found = []
    for index, tile in enumerate(tiles):
        rows = [one[1:] for one in detections if one[0] == index]
        origin = np.float32([*tile.box[:2], *tile.box[:2]])
        found.append(
            {
                "boxes": np.float32([row[0] for row in rows]).reshape(-1, 4) - origin,
                "classes": np.zeros(len(rows), int),
                "confidence": np.float32([row[1] for row in rows]),
                "uncertainties": np.float32([[row[2]] * 4 for row in rows]).reshape(-1, 4),
            }
        )
    return found


def test_sides_of_a_joined_box_are_of_the_piece_that_sees_them():
    left, right = tiles = tiles_of((100, 170), TILE, OVERLAP)
    assert (left.box[2], right.box[0]) == (100, 70)
    pieces = [(0, [20, 10, 100, 50], 0.8, 1.0), (1, [70, 11, 110, 52], 0.7, 2.0)]
    merged = merge_tiles(tiles, found_in(tiles, *pieces))
    # Of top and bottom both see all: those of the larger one.
    np.testing.assert_allclose(merged["boxes"], [[20, 10, 110, 50]], atol=1e-4)
    np.testing.assert_allclose(merged["uncertainties"], [[1, 1, 2, 1]])
    np.testing.assert_allclose(merged["confidence"], [0.8])


@pytest.mark.parametrize(
    "pieces, expected",
    [
        # The half of an object in the overlap, of which the other tile says nothing.
        ([(0, [85, 10, 100, 50], 0.8, 1.0)], []),
        # It is there whole, and less sure.
        ([(0, [85, 10, 100, 50], 0.8, 1.0), (1, [85, 10, 115, 50], 0.5, 1.0)], [[85, 10, 115, 50]]),
        # It is larger than the overlap: no other tile is sure to see more.
        ([(0, [40, 10, 100, 50], 0.8, 1.0)], [[40, 10, 100, 50]]),
        # Two objects, one below the other, of which each tile sees another.
        (
            [(0, [40, 10, 100, 40], 0.8, 1.0), (1, [70, 60, 130, 90], 0.7, 1.0)],
            [[40, 10, 100, 40], [70, 60, 130, 90]],
        ),
        # One object, found by both; and two neighbors that overlap, found by one tile.
        ([(0, [75, 10, 95, 50], 0.8, 1.0), (1, [76, 10, 96, 50], 0.7, 1.0)], [[75, 10, 95, 50]]),
        (
            [(0, [10, 10, 60, 50], 0.8, 1.0), (0, [20, 10, 70, 50], 0.7, 1.0)],
            [[10, 10, 60, 50], [20, 10, 70, 50]],
        ),
    ],
    ids=["lost half", "half and whole", "large piece", "two objects", "twice", "neighbors"],
)
def test_what_remains_at_a_seam(pieces, expected):
    tiles = tiles_of((100, 170), TILE, OVERLAP)
    merged = merge_tiles(tiles, found_in(tiles, *pieces))
    np.testing.assert_allclose(merged["boxes"], np.float32(expected).reshape(-1, 4), atol=1e-4)
