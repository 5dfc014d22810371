"""Statistics over seeds against closed forms and published tables."""

import math

import numpy as np
import pytest

from keras_gflv2.reproduction import statistics
from keras_gflv2.reproduction.statistics import paired_test


def test_students_t_with_few_degrees_of_freedom_is_the_closed_form():
    """One degree is the Cauchy distribution; two and three have elementary forms."""
    for t in (-3.0, -0.4, 0.0, 0.7, 5.0):
        cauchy = 0.5 + math.atan(t) / math.pi
        two = 0.5 + t / (2 * math.sqrt(2 + t * t))
        x = t / math.sqrt(3)
        three = 0.5 + (x / (1 + x * x) + math.atan(x)) / math.pi
        found = [statistics.student_cdf(t, freedom) for freedom in (1, 2, 3)]
        assert found == pytest.approx([cauchy, two, three], abs=1e-12)


@pytest.mark.parametrize(
    "freedom, quantile", [(1, 12.706), (2, 4.303), (4, 2.776), (7, 2.365), (9, 2.262), (30, 2.042)]
)
def test_quantiles_are_those_of_printed_tables(freedom, quantile):
    assert statistics.student_quantile(0.975, freedom) == pytest.approx(quantile, abs=5e-4)


def test_a_paired_test_by_hand():
    """Differences 1, 2, 3: mean 2, standard error 1/sqrt(3), t = 2 sqrt(3) with 2 degrees."""
    test = paired_test([11, 22, 33], [10, 20, 30])
    t = 2 * math.sqrt(3)
    assert (test.pairs, test.difference) == (3, 2.0)
    assert test.p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    half = 4.30265 / math.sqrt(3)
    assert (test.low, test.high) == pytest.approx((2 - half, 2 + half), abs=1e-4)
    assert test.exact_p == 2 / 2**3  # only +++ and --- are as far from 0


def test_pairing_removes_what_the_seeds_share():
    """The seeds differ by whole points, the rows by 0.01 with a spread of 0.001."""
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 1, 8)
    test = paired_test(seeds + 0.01 + rng.normal(0, 0.001, 8), seeds)
    assert test.p < 1e-4 and test.exact_p == 2 / 2**8
    assert test.difference == pytest.approx(0.01, abs=0.002)


def test_intervals_hold_the_true_difference_in_95_percent():
    rng = np.random.default_rng(1)
    tests = [paired_test(rng.normal(0.5, 1, 5), np.zeros(5)) for _ in range(2000)]
    covered = np.mean([test.low < 0.5 < test.high for test in tests])
    assert covered == pytest.approx(0.95, abs=0.02)


def test_p_values_of_equal_rows_are_uniform():
    rng = np.random.default_rng(2)
    tests = [paired_test(rng.normal(size=6), rng.normal(size=6)) for _ in range(2000)]
    for level in (0.05, 0.25, 0.5):
        assert np.mean([test.p <= level for test in tests]) == pytest.approx(level, abs=0.03)
        assert np.mean([test.exact_p <= level for test in tests]) == pytest.approx(level, abs=0.03)


def test_few_or_equal_numbers():
    one = paired_test([0.7], [0.6])
    assert (one.p, one.exact_p, one.low, one.high) == (1.0, 1.0, -math.inf, math.inf)
    assert paired_test([1, 2], [1, 2]).p == 1.0
    assert paired_test([2, 3], [1, 2]).p == 0.0  # without any spread
    for values, others in (([], []), ([1], [1, 2])):
        with pytest.raises(ValueError, match="Pairs are needed"):
            paired_test(values, others)


def test_holms_correction():
    """The example of Holm's step-down: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, and monotone."""
    assert statistics.holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert statistics.holm([0.6, 0.9]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_rank_agreement_is_kendalls_tau():
    assert statistics.rank_agreement([1, 2, 3, 4], [10, 20, 30, 40]) == 1.0
    assert statistics.rank_agreement([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    # Of six pairs five agree and one does not.
    assert statistics.rank_agreement([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    # A tie of the paper: five pairs count there, six here, all of the five agree.
    assert statistics.rank_agreement([1, 2, 3, 4], [1, 1, 2, 3]) == pytest.approx(5 / 30**0.5)
    assert math.isnan(statistics.rank_agreement([1, 2], [3, 3]))


def test_mean_and_spread():
    assert statistics.mean_and_spread([1.0, 3.0]) == (2.0, math.sqrt(2))
    assert statistics.mean_and_spread([1.0]) == (1.0, None)
