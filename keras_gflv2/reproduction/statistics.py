"""Differences of two rows over seeds: how large, how sure, and whether by chance.

Seeds pair the runs: with one seed two rows see the same images in the same order, and start from
the same weights where they have the same layers.
"""

import dataclasses
import itertools
import math
import statistics

import numpy as np

MOST_EXACT = 20  # pairs of which all 2^n signs are tried: a million


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """Outcome of `paired_test`.

    Attributes:
        pairs: their number n.
        difference: mean of the differences.
        low, high: 95 % confidence interval of the mean (Student's t); infinite for one pair.
        p: two-sided p-value of the paired t-test; 1 for one pair.
        exact_p: that of the sign-flip permutation test, which assumes no normal distribution. It is
            never below 2 / 2^n. None where n is above `MOST_EXACT`.
    """

    pairs: int
    difference: float
    low: float
    high: float
    p: float
    exact_p: float | None


def paired_test(values, others):
    """Tests whether two rows differ.

    Args:
        values, others: numbers of the two rows, the same seeds in the same order.

    Raises:
        ValueError: there are none, or not as many of both.
    """
    if len(values) != len(others) or not len(values):
        raise ValueError(f"Pairs are needed, got {len(values)} and {len(others)} numbers.")
    differences = np.asarray(values, "float64") - np.asarray(others, "float64")
    n, mean = len(differences), float(differences.mean())
    exact_p = sign_flip_p(differences) if n <= MOST_EXACT else None
    if n == 1:
        return PairedTest(n, mean, -math.inf, math.inf, 1.0, exact_p)
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return PairedTest(n, mean, mean, mean, 0.0 if mean else 1.0, exact_p)
    p = 2 * (1 - student_cdf(abs(mean) / error, n - 1))
    half = student_quantile(0.975, n - 1) * error
    return PairedTest(n, mean, mean - half, mean + half, p, exact_p)


def sign_flip_p(differences):
    """Two-sided p-value: how many choices of the differences' signs have a mean as far from 0."""
    differences = np.asarray(differences, "float64")
    sums = np.zeros(1)
    for difference in np.abs(differences):
        sums = np.concatenate([sums + difference, sums - difference])
    observed = abs(differences.sum())
    return float(np.mean(np.abs(sums) >= observed - 1e-12 * max(observed, 1.0)))


def student_cdf(t, freedom):
    """Distribution function of Student's t with a whole number of degrees of freedom.

    Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    cosine, term, total = math.cos(angle), 1.0, 0.0
    if freedom % 2:
        for i in range(1, (freedom - 1) // 2 + 1):
            term = math.cos(angle) if i == 1 else term * cosine**2 * (2 * i - 2) / (2 * i - 1)
            total += term
        between = 2 / math.pi * (angle + math.sin(angle) * total)
    else:
        for i in range(freedom // 2):
            term = 1.0 if i == 0 else term * cosine**2 * (2 * i - 1) / (2 * i)
            total += term
        between = math.sin(angle) * total
    return 0.5 + 0.5 * between


def student_quantile(probability, freedom):
    """The t below which a `probability` of at least a half lies, by bisection."""
    low, high = 0.0, 1.0
    while student_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, freedom) < probability else (low, middle)
    return high


def holm(p_values):
    """P-values corrected for their number (Holm, 1979), in the same order.

    Of all that are then below 0.05, even one is there by chance with a probability of 5 %.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def mean_and_spread(values):
    """Mean and sample standard deviation; the latter None of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def rank_agreement(values, others):
    """Kendall's tau-b of two lists: 1 for the same order, 0 for none in common, -1 for the reverse.

    Ties count for neither. NaN where all of a list are equal.
    """
    pairs = itertools.combinations(range(len(values)), 2)
    signs = [(np.sign(values[i] - values[j]), np.sign(others[i] - others[j])) for i, j in pairs]
    first, second = (sum(abs(s[k]) for s in signs) for k in (0, 1))
    if not first or not second:
        return math.nan
    return float(sum(a * b for a, b in signs) / math.sqrt(first * second))
