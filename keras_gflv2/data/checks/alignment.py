"""Whether boxes lie where something is in the picture: at edges.

A box that a person drew ends where an object ends, so that the picture changes across its sides
more than a little inside and outside of them. Boxes with x and y exchanged, of mirrored pictures or
of other pictures do not.
"""

import numpy as np

from keras_gflv2.data.checks.report import Finding

MIN_BOXES = 20
MIN_Z = 5.0  # standard errors by which another reading must fit better
MIN_RATIO = 1.5  # and how many times as well
MAX_OVERLAP = 0.5  # IoU with the box itself beyond which a reading says nothing
OUTLIER = 6.0  # standard deviations by which the boxes of another picture must stand out
MIN_PART = 0.2  # of the pictures that other boxes fit

# Ways to read the same four numbers; `width` and `height` are those of the picture.
ALIGNMENTS = {
    "as they are": lambda boxes, width, height: boxes,
    "with x and y exchanged": lambda boxes, width, height: boxes[:, [1, 0, 3, 2]],
    "mirrored left to right": lambda boxes, width, height: np.stack(
        [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], -1
    ),
    "mirrored top to bottom": lambda boxes, width, height: np.stack(
        [boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], -1
    ),
    "with their corner taken for their center": lambda boxes, width, height: (
        boxes - np.tile((boxes[:, 2:] - boxes[:, :2]) / 2, 2)
    ),
    "with their center taken for their corner": lambda boxes, width, height: (
        boxes + np.tile((boxes[:, 2:] - boxes[:, :2]) / 2, 2)
    ),
}


class Edges:
    """How much a gray picture changes across vertical and horizontal lines.

    Args:
        gray: float (H, W).
    """

    def __init__(self, gray):
        across_x = np.abs(np.diff(gray, axis=1, prepend=gray[:, :1]))
        across_y = np.abs(np.diff(gray, axis=0, prepend=gray[:1]))
        self.height, self.width = gray.shape
        # The mean along a line is a difference of two running sums.
        self._columns = np.pad(np.cumsum(across_x, axis=0), ((1, 0), (0, 0)))  # (H + 1, W)
        self._rows = np.pad(np.cumsum(across_y, axis=1), ((0, 0), (1, 0)))  # (H, W + 1)

    def fit(self, boxes, alignment="as they are"):
        """Change across the sides of boxes, less that a little inside and outside: (N,).

        Args:
            boxes: float (N, 4), xyxy in pixels.
            alignment: name in `ALIGNMENTS`, how they are to be read.

        Returns:
            Gray levels a pixel; NaN where a box, so read, leaves the picture, is too small to
            tell, or is about the same box.
        """
        if not len(boxes):
            return np.zeros(0)
        read = ALIGNMENTS[alignment](boxes, self.width, self.height)
        inside = (read >= -1).all(-1) & (read <= np.tile([self.width, self.height], 2) + 1).all(-1)
        extent = read[:, 2:] - read[:, :2]
        valid = inside & (extent.min(-1) >= 6)
        if alignment != "as they are":
            valid &= _iou(boxes, read) < MAX_OVERLAP
        around = 0.5 * (self._sides(_scaled(read, 0.6)) + self._sides(_scaled(read, 1.4)))
        return np.where(valid, self._sides(read) - around, np.nan)

    def _sides(self, boxes):
        """Mean change across the four sides, at the best of three places of each: (N,)."""
        limits = np.tile([self.width, self.height], 2)
        left, top, right, bottom = np.clip(np.rint(boxes), 0, limits).astype(int).T
        tall, wide = np.maximum(bottom - top, 1), np.maximum(right - left, 1)
        sides = []
        for x in (left, right):
            places = [np.clip(x + step, 0, self.width - 1) for step in (-1, 0, 1)]
            sums = [self._columns[bottom, p] - self._columns[top, p] for p in places]
            sides.append(np.max(sums, axis=0) / tall)
        for y in (top, bottom):
            places = [np.clip(y + step, 0, self.height - 1) for step in (-1, 0, 1)]
            sums = [self._rows[p, right] - self._rows[p, left] for p in places]
            sides.append(np.max(sums, axis=0) / wide)
        return np.mean(sides, axis=0)


def _scaled(boxes, factor):
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * factor
    return np.concatenate([center - half, center + half], axis=-1)


def _iou(boxes, others):
    shared = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = np.maximum(shared, 0).prod(-1)
    areas = [(b[:, 2:] - b[:, :2]).prod(-1) for b in (boxes, others)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)


def find_other_readings(split, annotations, looks):
    """Whether the boxes of a split fit its pictures better when their numbers are read otherwise.

    Args:
        split: its name.
        annotations: its `Annotations`.
        looks: list of `pictures.Looks` or None.
    """
    fits = np.concatenate([look.fits for look in looks if look] or [np.zeros((1, 0))], axis=1)
    found = []
    for row, name in enumerate(ALIGNMENTS):
        both = np.isfinite(fits[0]) & np.isfinite(fits[row]) if row else np.zeros(0, bool)
        gain = fits[row, both] - fits[0, both] if row else []
        if len(gain) < MIN_BOXES:
            continue
        own, other = fits[0, both].mean(), fits[row, both].mean()
        z = gain.mean() / max(gain.std() / np.sqrt(len(gain)), 1e-9)
        if z > MIN_Z and other > MIN_RATIO * max(own, 0):
            found.append((z, name, own, other, len(gain)))
    if not found:
        return []
    _, name, own, other, number = max(found)
    images = [(split, index) for index, r in enumerate(annotations.records) if len(r.boxes)]
    return [
        Finding(
            "error",
            "misread_boxes",
            f"{split + ': ' if split else ''}boxes fit the edges in the pictures better {name} "
            f"({other:.1f} against {own:.1f} gray levels a pixel, over {number} boxes)",
            advice="Look at the contact sheet, and correct the conversion of the boxes.",
            images=images[:4],
        )
    ]


def find_other_pictures(split, annotations, looks):
    """Whether pictures have each other's boxes, as after two lists were sorted differently."""
    rows = [i for i, look in enumerate(looks) if look and look.edges is not None]
    rows = [i for i in rows if len(annotations.records[i].boxes)]
    if len(rows) < MIN_BOXES:
        return []
    boxes = [_fractions(annotations.records[i]) for i in rows]
    counts = np.array([len(b) for b in boxes])
    ends = np.cumsum(counts)
    everything = np.concatenate(boxes)
    scores = np.zeros((len(rows), len(rows)))
    for place, index in enumerate(rows):
        edges = looks[index].edges
        size = np.tile([edges.width, edges.height], 2)
        fit = np.nan_to_num(edges.fit(everything * size))
        sums = np.add.reduceat(fit, np.concatenate([[0], ends[:-1]]))
        scores[place] = sums / np.sqrt(counts)
    deviation = np.maximum(scores.std(1), 1e-9)
    z = (scores - scores.mean(1, keepdims=True)) / deviation[:, None]
    best, own = z.argmax(1), np.diag(z)
    limit = min(OUTLIER, 0.6 * np.sqrt(len(rows)))
    of_others = [
        place
        for place in range(len(rows))
        if best[place] != place and z[place, best[place]] > limit and own[place] < limit / 2
    ]
    of_own = sum(own > limit)
    different = len({best[place] for place in of_others})
    is_many = different > MIN_PART * len(rows) and different > 0.8 * len(of_others)
    if not is_many or len(of_others) <= of_own:
        return []
    names = [annotations.records[i].name for i in rows]
    return [
        Finding(
            "error",
            "labels_of_other_pictures",
            f"{split + ': ' if split else ''}the boxes of {len(of_others)} of {len(rows)} pictures "
            "fit the edges in another picture and not in their own",
            [f"those of {names[best[place]]} fit {names[place]}" for place in of_others],
            "Pictures and annotations may be listed in different orders.",
            [(split, rows[place]) for place in of_others],
        )
    ]


def _fractions(record):
    return record.boxes.astype("float64") / np.tile([record.width, record.height], 2)
