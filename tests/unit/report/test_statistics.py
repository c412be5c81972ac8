import numpy as np
import pytest
from scipy import stats

from edgekd.report.statistics import (
    intervals_apart,
    median_ratio,
    paired_difference,
    welch_difference,
)

RANDOM = np.random.default_rng(3)
A = RANDOM.normal(10, 2, 40)
B = A + RANDOM.normal(0.4, 0.5, 40)


def test_paired_differences_are_scipys():
    found = paired_difference(A, B)
    outside = stats.ttest_rel(B, A)
    interval = outside.confidence_interval(0.95)
    assert found.value == pytest.approx((B - A).mean())
    assert found.error == pytest.approx((B - A).std(ddof=1) / np.sqrt(40))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_welchs_interval_is_scipys():
    found = welch_difference(A, B[:25] * 1.5)
    outside = stats.ttest_ind(B[:25] * 1.5, A, equal_var=False)
    interval = outside.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_pairing_finds_what_independent_samples_hide():
    assert paired_difference(A, B).low > 0
    assert welch_difference(A, B).low < 0


def test_samples_without_spread_have_an_interval_without_width():
    for test in (paired_difference, welch_difference):
        found = test([2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
        assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_interval_of_a_ratio_of_medians_is_near_scipys_bootstrap():
    a, b = RANDOM.exponential(5, 60) + 100, RANDOM.exponential(5, 60) + 150
    found = median_ratio(a, b)
    outside = stats.bootstrap(
        (a, b),
        lambda a, b, axis: np.median(b, axis) / np.median(a, axis),
        vectorized=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert found.value == np.median(b) / np.median(a)
    # Both are random: ends differ by a tenth of the interval at most.
    width = outside.high - outside.low
    assert found.low == pytest.approx(outside.low, abs=0.1 * width)
    assert found.high == pytest.approx(outside.high, abs=0.1 * width)


def test_the_bootstrap_is_seeded_and_its_memory_bounded():
    many = RANDOM.normal(100, 1, 5000)
    assert median_ratio(many, many[::2]) == median_ratio(many, many[::2])


def test_the_ratio_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = [
        found.low <= 1 <= found.high
        for _ in range(60)
        for found in [median_ratio(random.normal(100, 5, 30), random.normal(100, 5, 30))]
    ]
    # Binomial(60, 0.95): fewer than 50 has a probability of 1e-4.
    assert sum(covered) >= 50


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ((1, 2), (3, 4), True),
        ((3, 4), (1, 2), True),
        ((1, 3), (2, 4), False),
        ((1, None), (2, 3), None),
    ],
)
def test_intervals_that_do_not_meet_are_apart(a, b, apart):
    assert intervals_apart(a, b) is apart
