"""Logits of the four sides' distributions in, the numbers that describe their shape out."""

import dataclasses

import keras
from keras import ops

STATISTICS = ("topk", "mean", "var")


@dataclasses.dataclass(frozen=True)
class DistributionStatistics:
    """Statistics of the four sides' distributions, side by side: F in Eq. 4 of GFLV2.

    Args:
        topk: how many of the largest probabilities of a side are used (k, Table 2).
        statistics: which of "topk", "mean" and "var" are used (Table 1). Mean and variance are
            those of the `topk` values: the mean of all probabilities is always 1 / (n + 1).

    Call argument: logits (..., 4, n + 1). Returns (..., `size`), side by side.

    Raises:
        ValueError: `statistics` is empty or names an unknown one; `topk` is less than 1.
    """

    topk: int = 4
    statistics: tuple = ("topk", "mean")

    def __post_init__(self):
        unknown = set(self.statistics) - set(STATISTICS)
        if unknown or not self.statistics:
            raise ValueError(
                f"`statistics` must name one or more of {STATISTICS}, got {tuple(self.statistics)}."
            )
        if self.topk < 1:
            raise ValueError(f"`topk` must be at least 1, got {self.topk}.")

    @property
    def size(self):
        """How many numbers the four sides have together."""
        return 4 * sum(self.topk if name == "topk" else 1 for name in self.statistics)

    def check_shape(self, shape):
        """Looks at the shape of the raw numbers of one location.

        Raises:
            ValueError: they are no distributions, or of fewer than `topk` values.
        """
        if len(shape) != 2:
            raise ValueError(
                "The quality is read off distributions: the representation must be a "
                f"`GeneralDistribution`; this one has {shape} numbers per location."
            )
        if self.topk > shape[-1]:
            raise ValueError(
                f"`topk` is {self.topk}, more than the {shape[-1]} values of a distribution."
            )

    def __call__(self, logits):
        top = largest(ops.softmax(logits, axis=-1), self.topk)
        available = {
            "topk": lambda: top,
            "mean": lambda: ops.mean(top, axis=-1, keepdims=True),
            "var": lambda: ops.var(top, axis=-1, keepdims=True),
        }
        features = ops.concatenate([available[name]() for name in self.statistics], axis=-1)
        return ops.reshape(features, (*ops.shape(logits)[:-2], self.size))  # (..., 4 * (k + 1))


def largest(probabilities, k):
    """The `k` largest of the last axis, the largest first: (..., n) -> (..., k)."""
    if keras.backend.backend() != "jax":
        return ops.top_k(probabilities, k)[0]
    # XLA sorts each row for a top-k on a CPU; k times the largest takes a third of the time.
    return _largest_by_rounds(k)(probabilities)


def _largest_by_rounds(k):
    def values_and_gradient(probabilities):
        bins = ops.arange(probabilities.shape[-1], dtype="int32")
        values, indices, left = [], [], probabilities
        for _ in range(k):
            index = ops.cast(ops.argmax(left, axis=-1), "int32")[..., None]
            values.append(ops.max(left, axis=-1))
            indices.append(index)
            left = ops.where(ops.equal(bins, index), -1.0, left)

        def gradient(upstream):
            parts = [upstream[..., i, None] for i in range(k)]
            return sum(ops.where(ops.equal(bins, i), part, 0.0) for i, part in zip(indices, parts))

        return ops.stack(values, axis=-1), gradient

    return ops.custom_gradient(values_and_gradient)
