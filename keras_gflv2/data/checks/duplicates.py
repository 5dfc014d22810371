"""Pictures that are the same, whether encoded anew, resized, mirrored or turned.

A picture's fingerprint is what remains of it on 16 x 16 gray cells, without brightness and
contrast; the correlation of two fingerprints says how alike they are. Such a fingerprint keeps what
a hash of signs loses in even areas, where JPEG's noise decides the signs. Pairs are then compared
cell by cell: where one differs, something moved, and they are two frames of one scene.

The limits were measured on BCCD's photographs and on generated shapes: copies of a photograph at
JPEG quality 10, or at a third of its size, correlate by 0.995 and more and differ by 0.05 of the
range in a cell; different photographs correlate by 0.70 at most.
"""

import dataclasses

import numpy as np

from keras_gflv2.data.checks.report import Finding, counted

CELLS = 16
ALIKE = 0.95  # correlation from which two pictures are compared closely
SIMILAR = 0.985  # and from which they are one scene
SCENE = 0.995  # or this, without the cells that differ most
BLOCK = 2**26  # correlations that are in memory at a time
MOVED = 0.08  # of the picture's range of gray: a larger difference of a cell is another content
NOISE = 0.12  # of its standard deviation: likewise of all cells, root of the mean square
LEAST_MOVED = 6.0  # gray levels: what encoding changes
COARSE = 64  # pixels of the shorter side, at which twice these differences are allowed
FLAT = 3.0  # gray levels of standard deviation, below which a picture shows nothing
COLOR = 12.0  # RGB levels between the means of one picture
MANY = 20_000  # pictures from which turned copies are not looked for
TURNS = {
    "": lambda cells: cells,
    "mirrored": lambda cells: cells[:, :, ::-1],
    "upside down": lambda cells: cells[:, ::-1],
    "turned by 180 degrees": lambda cells: cells[:, ::-1, ::-1],
    "turned by 90 degrees": lambda cells: np.rot90(cells, 1, (1, 2)),
    "turned by 270 degrees": lambda cells: np.rot90(cells, 3, (1, 2)),
    "mirrored and turned by 90 degrees": lambda cells: np.rot90(cells[:, :, ::-1], 1, (1, 2)),
    "mirrored and turned by 270 degrees": lambda cells: np.rot90(cells[:, :, ::-1], 3, (1, 2)),
}


@dataclasses.dataclass
class Pair:
    """Two pictures that are alike.

    Attributes:
        first, second: (split, index) of the pictures, the first one earlier.
        turn: key of `TURNS`, how the second became of the first.
        is_same: whether it is one picture, not one scene.
    """

    first: tuple
    second: tuple
    turn: str
    is_same: bool


def find_pairs(looks):
    """All pictures with the earlier one that is most like them.

    Args:
        looks: {split: list of `pictures.Looks` or None}.

    Returns:
        List of `Pair`.
    """
    places = [(s, i) for s, of_split in looks.items() for i, look in enumerate(of_split) if look]
    if len(places) < 2:
        return []
    found = [looks[split][index] for split, index in places]
    cells = np.stack([look.thumbnail for look in found])
    turns = TURNS if len(places) <= MANY else {key: TURNS[key] for key in ("", "mirrored")}
    prints = _fingerprints(cells)
    best = {}
    for turn, apply in turns.items():
        for one, other in _alike(_fingerprints(apply(cells)), prints):
            pair = _compare(found, one, other, turn, places)
            if pair is None:
                continue
            # Across splits it matters most, then that it is the same.
            rank = (pair.first[0] != pair.second[0], pair.is_same, turn == "")
            if other not in best or rank > best[other][0]:
                best[other] = rank, pair
    return [pair for _, pair in best.values()]


def _pooled(cells):
    """Means of 16 x 16 cells, (n, 256)."""
    step = cells.shape[1] // CELLS
    pooled = cells.reshape(len(cells), CELLS, step, CELLS, step).astype("float32").mean((2, 4))
    return pooled.reshape(len(cells), -1)


def _fingerprints(cells):
    """Rows (n, 256) of unit length; zero for pictures that show nothing."""
    rows = _pooled(cells)
    rows = rows - rows.mean(1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > FLAT * CELLS, rows / np.maximum(length, 1e-6), 0.0)


def _alike(turned, prints, most=64):
    """Yields (one, other), one < other, where picture `one`, turned, is like `other`.

    Of each picture, the `most` alike earlier ones.
    """
    rows = max(BLOCK // len(prints), 1)
    for start in range(0, len(prints), rows):
        block = prints[start : start + rows] @ turned.T
        for row in np.flatnonzero((block > ALIKE).any(1)):
            other = start + int(row)
            ones = np.flatnonzero(block[row, :other] > ALIKE)
            for one in ones[np.argsort(-block[row, ones])][:most]:
                yield int(one), other


def _compare(found, one, other, turn, places):
    """The `Pair` of two pictures, None if they are neither the same nor of one scene."""
    first = _pooled(TURNS[turn](found[one].thumbnail[None]))[0].astype("float64")
    second = _pooled(found[other].thumbnail[None])[0].astype("float64")
    # The brightness and contrast of the second, in least squares.
    slope = np.cov(first, second)[0, 1] / max(first.var(ddof=1), 1e-9)
    rest = second - second.mean() - slope * (first - first.mean())
    allowed = 1 + COARSE / min(found[one].short_side, found[other].short_side)
    largest = max(LEAST_MOVED, MOVED * (second.max() - second.min())) * allowed
    noise = np.sqrt((rest**2).mean()) / max(second.std(), 1e-9)
    color = np.abs(found[one].color - found[other].color).max()
    is_same = np.abs(rest).max() <= largest and noise <= NOISE * allowed and color <= COLOR
    is_scene = np.corrcoef(first, second)[0, 1] > SIMILAR or _mostly_same(first, second, rest)
    return Pair(places[one], places[other], turn, bool(is_same)) if is_same or is_scene else None


def _mostly_same(first, second, rest):
    """Whether the same is seen in nine of ten cells."""
    cells = np.abs(rest) <= np.percentile(np.abs(rest), 90)
    return np.corrcoef(first[cells], second[cells])[0, 1] > SCENE


def find_duplicates(parts, looks):
    """Pictures that two splits share, or that one has twice.

    Args:
        parts: {split: `Annotations`}.
        looks: as for `find_pairs`.
    """
    pairs = find_pairs(looks)
    across = [pair for pair in pairs if pair.first[0] != pair.second[0]]
    shared, similar = ([p for p in across if p.is_same == same] for same in (True, False))
    if shared:
        yield Finding(
            "error",
            "shared_images",
            counted(len(shared), "picture is", "pictures are") + " in two splits",
            [_said(pair, parts) for pair in shared],
            "What was trained on is scored: remove them from one of the two.",
            [place for pair in shared for place in (pair.second, pair.first)],
        )
    if similar:
        yield Finding(
            "warning",
            "similar_images",
            counted(len(similar), "picture is", "pictures are")
            + " nearly the same as one of another split",
            [_said(pair, parts) for pair in similar],
            "Frames of one scene make scores look better than they are: keep each scene in one "
            "split.",
            [place for pair in similar for place in (pair.second, pair.first)],
        )
    within = [p for p in pairs if p.is_same and p.first[0] == p.second[0]]
    within = [
        p for p in within if len({parts[s].records[i].file for s, i in (p.first, p.second)}) > 1
    ]
    if within:
        different = [p for p in within if not _have_same_boxes(p, parts)]
        yield Finding(
            "warning",
            "repeated_images",
            counted(len(within), "picture repeats", "pictures repeat") + " one of the same split",
            [_said(pair, parts) for pair in within],
            "Of these, different boxes: " + str(len(different)) + "; one of the two is wrong."
            if different
            else "",
            [place for pair in different or within for place in (pair.second, pair.first)],
        )


def find_shared_files(parts):
    """Files that two splits list, without looking at the pictures."""
    owners, shared = {}, []
    for split, annotations in parts.items():
        for index, record in enumerate(annotations.records):
            first = owners.setdefault(record.file, (split, index))
            if first[0] != split:
                shared.append((first, (split, index)))
    if shared:
        yield Finding(
            "error",
            "shared_files",
            counted(len(shared), "file is", "files are") + " listed in two splits",
            [parts[split].records[index].name for _, (split, index) in shared],
            "What was trained on is scored: remove them from one of the two.",
            [place for pair in shared for place in pair],
        )


def _said(pair, parts):
    names = [_name(place, parts) for place in (pair.second, pair.first)]
    return f"{names[0]} is {names[1]}" + (f" {pair.turn}" if pair.turn else "")


def _name(place, parts):
    split, index = place
    record = parts[split].records[index]
    return f"{split}/{record.name}" if split else record.name


def _have_same_boxes(pair, parts):
    """Whether both have as many boxes of each class; where they are is another question."""
    classes = [
        sorted(parts[split].class_names[label] for label in parts[split].records[index].classes)
        for split, index in (pair.first, pair.second)
    ]
    return classes[0] == classes[1]
