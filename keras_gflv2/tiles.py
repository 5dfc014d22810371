"""Large images in overlapping tiles, and the detections of the tiles as those of one image.

In: the size of an image and of its tiles; then the detections of each tile. Out: the tiles; then
one set of detections in which no object is there twice, and none cut by a border of a tile.
"""

import dataclasses
import itertools
import math

import numpy as np

DEFAULT_OVERLAP = 0.2  # of a tile
# A box that ends so near to a border within the image, in fractions of the tile, is cut by it.
BORDER = 0.01
# Boxes of two tiles are one object if their IoU is greater, or so much of one is in the other.
SAME_IOU = 0.5
INSIDE = 0.75
# A whole box of less than this fraction of a piece's confidence does not speak for it, and pieces
# whose confidences differ by more are not put together.
WHOLE_CONFIDENCE = 0.3
PIECE_CONFIDENCE = 0.5
# Two pieces belong together if their extents along the border have at least this IoU.
ALONG_BORDER = 0.5


@dataclasses.dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes:
        box: left, top, right, bottom in pixels of the image.
        shared: for each of these sides the pixels that the tile has in common with its neighbor
            there; infinite where the image ends.
    """

    box: tuple
    shared: tuple

    def cut_from(self, image):
        """The pixels of the tile, a view of those of the image (H, W, ...)."""
        left, top, right, bottom = self.box
        return image[top:bottom, left:right]


def tiles_of(image_size, tile, overlap=DEFAULT_OVERLAP):
    """Tiles that cover an image, row by row.

    Args:
        image_size: (height, width) in pixels.
        tile: side of a tile in pixels, or its (height, width). An image that is smaller is one.
        overlap: the least overlap of neighbors as a fraction of a tile, less than 1. Objects that
            are not larger than the overlap are seen whole by at least one tile.

    Returns:
        List of `Tile`.

    Raises:
        ValueError: the tile is smaller than a pixel, or the overlap is not in 0..1.
    """
    rows, columns = (
        _spans(length, side, overlap) for length, side in zip(image_size, tile_size(tile))
    )
    across, down = _shared(columns), _shared(rows)
    return [
        Tile((left, top, right, bottom), (before, above, after, below))
        for (top, bottom), above, below in zip(rows, down, down[1:])
        for (left, right), before, after in zip(columns, across, across[1:])
    ]


def tile_size(tile):
    """(height, width) of a `tile`, which may be a number."""
    height, width = (tile, tile) if np.isscalar(tile) else tile
    if not (height >= 1 and width >= 1):
        raise ValueError(f"`tile` must be a side in pixels or (height, width), got {tile!r}.")
    return int(height), int(width)


def _spans(length, side, overlap):
    """Starts and ends of tiles along one axis, evenly spread."""
    if not 0 <= overlap < 1:
        raise ValueError(f"`overlap` must be a fraction of a tile, 0 to less than 1: {overlap!r}.")
    if length <= side:
        return [(0, length)]
    step = max(side * (1 - overlap), 1)
    count = int(np.ceil((length - side) / step)) + 1
    starts = np.round(np.linspace(0, length - side, count)).astype(int).tolist()
    return [(start, start + side) for start in starts]


def _shared(spans):
    """What each tile along an axis shares with the one before, and at last with none after it."""
    between = [before[1] - after[0] for before, after in itertools.pairwise(spans)]
    return [math.inf, *between, math.inf]


def merge_tiles(tiles, found):
    """Detections of an image from those of its tiles.

    Every object that is not larger than the overlap is whole in a tile. Whole boxes of several
    tiles for one object give way to the surest. A box that a border of its tile cuts gives way to
    the whole one around it. Pieces of an object that no tile sees whole are put together where
    they continue each other across the border. What then remains cut is left out, unless it is
    larger than the overlap: no other tile is sure to see more of it.

    Args:
        tiles: list of `Tile`.
        found: for each tile a dictionary with "boxes" (n, 4) xyxy in pixels of the tile, "classes"
            (n,), "confidence" (n,) and, optionally, "uncertainties" (n, 4).

    Returns:
        Dictionary of the same keys in pixels of the image, best first. Sides of boxes that were put
        together, and their uncertainties, are those of the largest piece that sees them.
    """
    origins = [np.float32([*tile.box[:2], *tile.box[:2]]) for tile in tiles]
    merged = {name: np.concatenate([one[name] for one in found]) for name in found[0]}
    merged["boxes"] = np.concatenate([f["boxes"] + at for f, at in zip(found, origins)])
    owners = np.repeat(np.arange(len(tiles)), [len(one["boxes"]) for one in found])
    cut = _cut_sides(merged["boxes"], owners, tiles)
    is_lost = _is_seen_elsewhere(merged["boxes"], owners, tiles, cut)
    groups = [
        _merge_class({name: value[rows] for name, value in merged.items()}, *of_boxes)
        for label in np.unique(merged["classes"])
        for rows in [np.flatnonzero(merged["classes"] == label)]
        for of_boxes in [(owners[rows], cut[rows], is_lost[rows])]
    ]
    if groups:
        merged = {name: np.concatenate([group[name] for group in groups]) for name in merged}
    order = np.argsort(-merged["confidence"], kind="stable")
    return {name: value[order] for name, value in merged.items()}


def _cut_sides(boxes, owners, tiles):
    """Which sides (n, 4) of boxes are at borders of their tiles within the image."""
    frames = np.float32([tile.box for tile in tiles]).reshape(-1, 4)
    goes_on = np.isfinite([tile.shared for tile in tiles])
    margins = BORDER * np.tile(frames[:, 2:] - frames[:, :2], 2)
    return goes_on[owners] & (np.abs(boxes - frames[owners]) <= margins[owners])


def _is_seen_elsewhere(boxes, owners, tiles, cut):
    """Which boxes (n,) lie wholly in the overlap at a border that cuts them: what is there of their
    object is seen by the neighbor, too."""
    shared = np.array([tile.shared for tile in tiles])[owners]
    extents = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return (cut & (extents <= shared)).any(axis=1)


def _merge_class(found, owners, cut, is_seen_elsewhere):
    """The same for the boxes of one class, in pixels of the image."""
    boxes, confidence = found["boxes"], found["confidence"]
    is_cut = cut.any(axis=1)
    whole = np.flatnonzero(~is_cut)
    whole = whole[_surest(boxes[whole], confidence[whole], owners[whole])]
    pieces = [i for i in np.flatnonzero(is_cut) if not _is_seen_whole(i, whole, found, owners)]
    result = {name: value[whole] for name, value in found.items()}
    groups = _connected(np.array(pieces, int), found, owners, cut)
    # Those that are whole now first: what is still cut may be a part of them.
    for group in sorted(groups, key=lambda g: (cut[g].all(axis=0).any(), -confidence[g].max())):
        one = _join(group, found, cut)
        is_lost = cut[group].all(axis=0).any() and is_seen_elsewhere[group].all()
        if not is_lost and not _same(one["boxes"], result["boxes"]).any():
            result = {name: np.concatenate([v, one[name][None]]) for name, v in result.items()}
    return result


def _surest(boxes, confidence, owners):
    """Which boxes (n,) remain where several tiles found one object."""
    remains = np.ones(len(boxes), bool)
    order = np.argsort(-confidence, kind="stable")
    for position, index in enumerate(order):
        if remains[index]:
            later = order[position + 1 :]
            same = _same(boxes[later], boxes[index])
            remains[later[same & (owners[later] != owners[index])]] = False
    return remains


def _is_seen_whole(piece, whole, found, owners):
    """Whether another tile sees the whole object of a box that is cut."""
    sure = found["confidence"][whole] > WHOLE_CONFIDENCE * found["confidence"][piece]
    others = whole[sure & (owners[whole] != owners[piece])]
    return bool((_inside(found["boxes"][piece], found["boxes"][others]) > INSIDE).any())


def _connected(pieces, found, owners, cut):
    """Groups of pieces that continue each other, directly or by others; some are of one piece."""
    boxes, confidence = found["boxes"], found["confidence"]
    groups = {int(piece): {int(piece)} for piece in pieces}
    for first in pieces:
        relative = confidence[pieces] / confidence[first]
        similar = (relative >= PIECE_CONFIDENCE) & (relative <= 1 / PIECE_CONFIDENCE)
        others = pieces[similar & (owners[pieces] != owners[first])]
        for second in others[_continue(boxes[first], cut[first], boxes[others], cut[others])]:
            group = groups[int(first)] | groups[int(second)]
            groups.update(dict.fromkeys(group, group))
    return [sorted(group) for group in {id(group): group for group in groups.values()}.values()]


def _continue(box, cut, others, others_cut):
    """Which other pieces go on beyond the right or the bottom side of one, where it is cut."""
    found = np.zeros(len(others), bool)
    for side, opposite in ((2, 0), (3, 1)):
        axis, along = side % 2, 1 - side % 2
        ordered = [box[axis], others[:, axis], box[axis + 2], others[:, axis + 2]]
        in_order = np.all([a <= b for a, b in itertools.pairwise(ordered)], axis=0)
        shared = np.minimum(box[along + 2], others[:, along + 2])
        shared = shared - np.maximum(box[along], others[:, along])
        extent = np.maximum(box[along + 2], others[:, along + 2])
        extent = extent - np.minimum(box[along], others[:, along])
        is_opposite = cut[side] & others_cut[:, opposite]
        found |= is_opposite & in_order & (shared >= ALONG_BORDER * extent)
    return found


def _join(group, found, cut):
    """One detection of several pieces."""
    boxes = found["boxes"][group]
    # Each side is that of the largest piece that sees it; one that none sees is the farthest.
    rank = np.where(cut[group], -1.0, _area(boxes)[:, None])
    farthest = np.concatenate([boxes.argmin(axis=0)[:2], boxes.argmax(axis=0)[2:]])
    of_side = np.where(cut[group].all(axis=0), farthest, rank.argmax(axis=0))
    best = group[int(found["confidence"][group].argmax())]
    joined = {name: value[best] for name, value in found.items()}
    for name in ("boxes", "uncertainties"):
        if name in found:
            joined[name] = found[name][group][of_side, np.arange(4)]
    return joined


def _same(boxes, others):
    """Whether boxes (..., 4) have much in common with others, or lie inside of them."""
    shared = _intersection(boxes, others)
    union = _area(boxes) + _area(others) - shared
    return (shared / union > SAME_IOU) | (_inside(boxes, others) > INSIDE)


def _inside(boxes, others):
    """How much of boxes (..., 4) is inside of others."""
    return _intersection(boxes, others) / _area(boxes)


def _intersection(boxes, others):
    ends = np.minimum(boxes[..., 2:], others[..., 2:])
    return np.maximum(ends - np.maximum(boxes[..., :2], others[..., :2]), 0).prod(axis=-1)


def _area(boxes):
    return np.maximum((boxes[..., 2:] - boxes[..., :2]).prod(axis=-1), 1e-9)
