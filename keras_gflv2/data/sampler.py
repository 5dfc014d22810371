"""Which images form a batch, at which size: plain numpy, so that a seed fixes everything.

The tf.data pipeline is a pure function of the plans made here: two runs with one seed give the same
batches whatever the number of threads.
"""

import itertools

import numpy as np

from keras_gflv2.grid import SIZE_MULTIPLE, padded
from keras_gflv2.images import resize_shape

MAX_SHORT_SIDES = 6


class BatchSampler:
    """Plans the batches of an epoch.

    Calling it yields one dictionary of arrays for each batch of B images:
        indices: int64 (B, 4), the image, and three more to mix it with.
        seed: int32 (B, 2), for the stateless random operations of an example.
        image_size: int32 (B, 2), short side and longest long side of this batch.
        canvas: int32 (B, 2), height and width of the padded batch.
        quarter_turn: bool (B,), whether this batch is turned by 90 degrees.
        mosaic: bool (B,), whether an example is a mosaic.
        mixup: bool (B,), whether an example is mixed with the image after it in `indices`.

    Args:
        sizes: int (num_images, 2): height and width of every image.
        batch_size: int.
        image_size: `(short, longest)`, or `((low, high), longest)` to draw the short
            side for each batch.
        train: whether to group images by orientation and to fill the last batches by repetition.
        shuffle: whether to draw a new order for each epoch.
        seed: int or None.
        rotate90: probability that a batch is turned by 90 degrees.
        mosaic: probability that an example is a mosaic.
        mosaic_epochs: number of epochs after which none is, and none is mixed; None for never.
        repeats: float (num_images,), at least 1: how often an epoch has each image on average.
        shard: `(index, count)`: yield only this part of every batch, of `count` equal ones. All
            parts of a batch have one plan, so they make up the batch that is made alone.
        mixup: probability that an example that is no mosaic is mixed with another.
    """

    def __init__(
        self,
        sizes,
        batch_size,
        image_size,
        train,
        shuffle,
        seed=None,
        rotate90=0.0,
        mosaic=0.0,
        mosaic_epochs=None,
        repeats=None,
        shard=(0, 1),
        mixup=0.0,
    ):
        self.sizes = np.asarray(sizes, "int64").reshape(-1, 2)
        self.batch_size = batch_size
        self.short_sides, self.longest = check_image_size(image_size, train)
        self.train = train
        self.shuffle = shuffle
        self.seed = choose_seed(seed)
        self.rotate90 = rotate90
        self.mosaic = mosaic
        self.mixup = mixup
        self.mosaic_epochs = mosaic_epochs
        self.repeats = np.ones(len(self.sizes)) if repeats is None else np.asarray(repeats)
        self.shard = shard
        self.next_epoch = self.next_step = 0
        self.groups = self._split_by_orientation()
        self._edges = {short: self._used_edges(short) for short in self.short_sides}

    def __call__(self):
        """Yields the plans of the next epoch, from `next_step` on."""
        epoch, first = self.next_epoch, self.next_step
        self.next_epoch, self.next_step = epoch + 1, 0
        index, count = self.shard
        part = slice(index * self.batch_size // count, (index + 1) * self.batch_size // count)
        for plan in itertools.islice(self._epoch(epoch), first, None):
            yield plan if count == 1 else {name: values[part] for name, values in plan.items()}

    def _epoch(self, epoch):
        random = np.random.default_rng([self.seed, epoch])
        is_over = self.mosaic_epochs is not None and epoch >= self.mosaic_epochs
        for indices in self._batches(random):
            yield self._plan_batch(indices, random, is_over)

    def set_position(self, epoch, step=0):
        """Makes the next pass that of an epoch, from one of its steps on."""
        self.next_epoch, self.next_step = int(epoch), int(step)

    def images_of(self, epoch, step):
        """Indices of the images that batch `step` of an epoch is made of."""
        plan = next(itertools.islice(self._epoch(epoch), step, None))
        counts = np.where(plan["mosaic"], 4, np.where(plan["mixup"], 2, 1))
        used = [row[:count] for row, count in zip(plan["indices"], counts)]
        return sorted({int(index) for index in np.concatenate(used)})

    @property
    def num_batches(self):
        """Number of batches of an epoch."""
        return sum(-(-self._length(group) // self.batch_size) for group in self.groups)

    @property
    def always_full(self):
        """Whether every batch has `batch_size` images."""
        return self.train or len(self.sizes) % self.batch_size == 0

    @property
    def canvas_sizes(self):
        """All `(height, width)` that a batch can have."""
        canvases = set()
        for short in self.short_sides:
            heights, widths = (self._edges[short][side] for side in (0, 1))
            upright = {(height, width) for height in heights for width in widths}
            if self.rotate90 < 1:
                canvases |= upright
            if self.rotate90 > 0:
                canvases |= {(width, height) for height, width in upright}
        return sorted(canvases)

    def canvas(self, shapes, short):
        """Returns the smallest canvas that covers images of the given resized shapes.

        Args:
            shapes: int (B, 2): height and width of the resized images.
            short: the short side of this batch in pixels.
        """
        needed = np.max(shapes, axis=0)
        return tuple(
            min(edge for edge in self._edges[short][side] if edge >= needed[side])
            for side in (0, 1)
        )

    def _split_by_orientation(self):
        """Index arrays of images that may share a batch: landscape and portrait in training."""
        everything = np.arange(len(self.sizes))
        if not self.train:
            return [everything]
        landscape = self.sizes[:, 1] >= self.sizes[:, 0]
        return [group for group in (everything[landscape], everything[~landscape]) if len(group)]

    def _batches(self, random):
        """Returns a list of index arrays, each with its group, in the order of the epoch."""
        batches = []
        for group in self.groups:
            order = self._order(group, random)
            for start in range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                missing = self.batch_size - len(batch)
                if self.train and missing:
                    batch = np.concatenate([batch, _fill(group, batch, missing, random)])
                batches.append(batch)
        if self.shuffle and self.train:
            batches = [batches[i] for i in random.permutation(len(batches))]
        return batches

    def _order(self, group, random):
        """The images of a group in the order of an epoch, some of them repeatedly."""
        order = random.permutation(group) if self.shuffle else group
        length = self._length(group)
        if length == len(group):
            return order
        # Systematic sampling: each image floor or ceil of its repeats, the length always the same.
        ends = np.cumsum(self.repeats[order])
        points = (np.arange(length) + (random.random() if self.shuffle else 0.5)) / length
        order = order[np.searchsorted(ends, points * ends[-1], side="right")]
        return random.permutation(order) if self.shuffle else order

    def _length(self, group):
        """How many images an epoch has of a group."""
        # Rounded, for sums of 1 that floats leave a little above a whole number.
        return int(np.ceil(round(float(self.repeats[group].sum()), 6)))

    def _plan_batch(self, indices, random, mixes_no_more):
        short = self.short_sides[random.integers(len(self.short_sides))]
        quarter_turn = bool(random.random() < self.rotate90)
        mixes = self.mosaic or self.mixup
        group = next(group for group in self.groups if not mixes or indices[0] in group)
        shapes = [resize_shape(self.sizes[i], (short, self.longest)) for i in indices]
        canvas = self.canvas(shapes, short)
        if quarter_turn:
            canvas = canvas[::-1]
        count = len(indices)
        others = random.choice(group, (count, 3)) if mixes else np.repeat(indices[:, None], 3, 1)
        plan = {
            "indices": np.concatenate([indices[:, None], others], axis=1).astype("int64"),
            "seed": random.integers(2**31 - 1, size=(count, 2)).astype("int32"),
            "image_size": np.tile(np.array([short, self.longest], "int32"), (count, 1)),
            "canvas": np.tile(np.array(canvas, "int32"), (count, 1)),
            "quarter_turn": np.full(count, quarter_turn),
            "mosaic": random.random(count) < (0.0 if mixes_no_more else self.mosaic),
        }
        # Drawn last, and only where it is wanted: seeds give the batches that they always gave.
        mixup = 0.0 if mixes_no_more else self.mixup
        drawn = random.random(count) if self.mixup else np.ones(count)
        return {**plan, "mixup": (drawn < mixup) & ~plan["mosaic"]}

    def _used_edges(self, short):
        """The few heights, and the few widths, that canvases of this short side can have."""
        unique = np.unique(self.sizes, axis=0)
        shapes = np.array([resize_shape(size, (short, self.longest)) for size in unique])
        edges = []
        for sides in shapes.T:
            possible = canvas_edges(short, self.longest, padded(int(sides.max())))
            edges.append(sorted({min(e for e in possible if e >= side) for side in sides}))
        return edges


class StreamSampler:
    """Plans batches where the images come from a stream, so that their sizes are not known.

    Args:
        batch_size, image_size, train, seed, rotate90: see `BatchSampler`.
        shard_index: number of this process, whose examples have seeds of their own.
    """

    def __init__(self, batch_size, image_size, train, seed=None, rotate90=0.0, shard_index=0):
        self.batch_size = batch_size
        self.short_sides, self.longest = check_image_size(image_size, train)
        self.seed = choose_seed(seed)
        self.rotate90 = rotate90
        self.shard_index = shard_index
        self.next_epoch = self.next_step = 0

    def set_position(self, epoch, step=0):
        """Makes the next pass that of an epoch, from one of its steps on."""
        self.next_epoch, self.next_step = int(epoch), int(step)

    def next_pass(self):
        """Yields one (epoch, first step, seed of the order): those of the pass that begins now."""
        epoch, first = self.next_epoch, self.next_step
        self.next_epoch, self.next_step = epoch + 1, 0
        seeds = np.random.default_rng([self.seed, epoch, self.shard_index, 1])
        yield epoch, first, int(seeds.integers(2**31 - 2))

    def plans(self, epoch, first=0):
        """Yields the plans of an epoch from a step on, without end.

        Each is a dictionary of `seed` (B, 2), `image_size` (B, 2) and `quarter_turn` (B,), as
        `BatchSampler` has them, and `edges` (B, 3): the side lengths that a canvas can have.
        """
        epoch, first = int(epoch), int(first)
        random = np.random.default_rng([self.seed, epoch])
        own = np.random.default_rng([self.seed, epoch, self.shard_index])
        for step in itertools.count():
            short = self.short_sides[random.integers(len(self.short_sides))]
            plan = {
                "seed": own.integers(2**31 - 1, size=(self.batch_size, 2)).astype("int32"),
                "image_size": np.tile(
                    np.array([short, self.longest], "int32"), (self.batch_size, 1)
                ),
                "edges": np.tile(np.int32(_edges(short, self.longest)), (self.batch_size, 1)),
                "quarter_turn": np.full(self.batch_size, random.random() < self.rotate90),
            }
            if step >= first:
                yield plan


def choose_seed(seed):
    """Returns `seed`, or a random one for None."""
    return int(np.random.SeedSequence().entropy % 2**31) if seed is None else int(seed)


def repeat_factors(classes, num_classes, threshold):
    """How often an epoch should show each image so that rare classes are seen more often.

    A class in a fraction f of the images, f below the threshold t, is repeated sqrt(t / f) times;
    an image as its rarest class (repeat-factor sampling: LVIS, Gupta et al., 2019).

    Args:
        classes: list of int arrays, the classes of each image.
        num_classes: int.
        threshold: t, 0 for no repetition.

    Returns:
        Float array (num_images,), at least 1.
    """
    present = np.zeros((len(classes), num_classes), bool)
    for row, ids in zip(present, classes):
        row[ids] = True
    frequency = np.maximum(present.mean(axis=0), 1e-12)
    factors = np.maximum(np.sqrt(threshold / frequency), 1.0)
    return np.max(np.where(present, factors, 1.0), axis=1)


def _fill(group, batch, missing, random):
    """Draws images to fill a batch, none twice as long as the group has others."""
    others = np.setdiff1d(group, batch)
    if len(others) >= missing:
        return random.choice(others, missing, replace=False)
    return random.choice(group, missing)


def canvas_edges(short, longest, largest=None):
    """Returns the possible side lengths of a canvas: ratios 1:1, 4:3 and longest:short.

    Args:
        short: short side of the batch in pixels.
        longest: longest long side in pixels.
        largest: the largest side that occurs, a multiple of 32; None if unknown.

    Returns:
        Sorted list of multiples of 32.
    """
    edges = set(_edges(short, longest))
    if largest is not None:
        edges = {edge for edge in edges if edge < largest} | {largest}
    return sorted(edges)


def _edges(short, longest):
    """The three lengths, ascending; two of them may be the same."""
    lengths = (min(short, longest), min(-(-short * 4 // 3), longest), longest)
    return [padded(length) for length in lengths]


def check_image_size(image_size, train):
    """Checks `image_size`.

    Returns:
        `(short_sides, longest)`: list of the short sides to draw from, and the longest long side.

    Raises:
        ValueError: for any other form; the message shows the two that are accepted.
    """
    try:
        short, longest = image_size
        low, high = short if isinstance(short, (tuple, list)) else (short, short)
        whole = all(float(side) == int(side) for side in (low, high, longest))
        low, high, longest = int(low), int(high), int(longest)
    except (TypeError, ValueError):
        whole = False
    if not whole or not 0 < low <= high or longest <= 0:
        raise ValueError(
            "`image_size` must be (short side, longest long side) in pixels, e.g. (800, 1333), or "
            "((lowest, highest short side), longest long side) in training, e.g. "
            f"((480, 960), 1333). Received: image_size={image_size!r}"
        )
    if longest < high:
        raise ValueError(
            "`image_size` is (short side, longest long side): the second must not be the smaller "
            f"one. Received: image_size={image_size!r}"
        )
    if low != high and not train:
        raise ValueError(
            "A range of short sides needs `train=True`; for evaluation give one short side. "
            f"Received: image_size={image_size!r}"
        )
    return short_side_buckets(low, high), longest


def short_side_buckets(low, high):
    """Returns at most 6 evenly spaced short sides: both ends, and multiples of 32 between them."""
    if low == high:
        return [low]
    count = min(MAX_SHORT_SIDES, max(2, (high - low) // SIZE_MULTIPLE + 1))
    inner = [
        round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE for side in np.linspace(low, high, count)[1:-1]
    ]
    return sorted({low, *(side for side in inner if low < side < high), high})
