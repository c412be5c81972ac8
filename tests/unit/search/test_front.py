import itertools

import numpy as np
import pytest
from fixtures.studies import scored
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume

from edgekd.search.front import hypervolume, non_dominated, pareto_front, thin

# Few distinct values, so that ties are common.
TABLES = st.tuples(st.integers(0, 12), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 4).map(float))
)


def dominates(one, other) -> bool:
    return bool((one <= other).all() and (one < other).any())


@given(TABLES)
def test_non_dominated_is_what_no_other_row_beats_each_once(values):
    kept = non_dominated(values)
    rows = [tuple(row) for row in values[kept]]
    wanted = {tuple(row) for row in values if not any(dominates(other, row) for other in values)}
    assert len(rows) == len(set(rows))
    assert set(rows) == wanted
    assert rows == sorted(rows)


@given(TABLES)
def test_of_equal_rows_the_first_is_kept(values):
    for row in non_dominated(values):
        assert row == next(i for i in range(len(values)) if (values[i] == values[row]).all())


@given(TABLES)
def test_hypervolume_is_the_number_of_unit_cells_below_the_reference(values):
    """On integers, the volume is a count of cells: here each one is looked at."""
    reference = np.full(values.shape[1], 3.0)
    cells = itertools.product(range(3), repeat=values.shape[1])
    count = sum(any((row <= cell).all() for row in values) for cell in cells)
    assert hypervolume(values, reference) == pytest.approx(count)


def test_hypervolume_agrees_with_optuna():
    values = np.random.default_rng(0).random((60, 3))
    reference = np.full(3, 0.9)
    inside = values[(values < reference).all(axis=1)]
    assert hypervolume(values, reference) == pytest.approx(compute_hypervolume(inside, reference))


def test_a_front_is_in_order_of_latency_and_takes_size_into_account():
    fast, good = scored(1, 0.5, 10), scored(3, 0.9, 10)
    small, beaten = scored(2, 0.4, 5), scored(2, 0.4, 10)
    assert pareto_front([good, beaten, small, fast]) == (fast, small, good)


def test_a_measured_point_counts_more_than_a_prediction_of_the_same_candidate():
    predicted = scored(1, 0.5, name="a")
    measured = scored(2, 0.5, measured=True, name="a")
    assert pareto_front([measured, predicted]) == (measured,)
    assert pareto_front([predicted, measured]) == (measured,)


def test_no_points_no_front():
    assert pareto_front([]) == ()
    assert thin([], 3) == ()


@given(st.integers(2, 30), st.integers(0, 12))
def test_a_thinned_front_keeps_its_ends_its_order_and_what_it_must(length, count):
    front = [scored(1 + i, (i + 1) / 40, size=100 - i) for i in range(length)]
    short = thin(front, count, keep=front[length // 2 : length // 2 + 1])
    assert [one for one in front if one in short] == list(short)
    assert {front[0], front[-1], front[length // 2]} <= set(short)
    assert len(short) <= max(count, 3)


def test_a_thinned_front_drops_the_crowd():
    front = [scored(x, x / 20) for x in (1, 4, 4.1, 4.2, 16)]
    kept = [one.cost.latency_ms for one in thin(front, 3)]
    assert kept[0] == 1
    assert kept[-1] == 16
    assert len(kept) == 3
