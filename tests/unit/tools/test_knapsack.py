import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgekd.search.front import non_dominated
from tools.search.knapsack import exact_front, share_reached

# Integers, for exact sums.
AMOUNTS = st.integers(1, 3).flatmap(
    lambda width: st.lists(
        st.integers(1, 4).flatmap(
            lambda count: arrays(np.float64, (count, width), elements=st.integers(0, 9).map(float))
        ),
        min_size=1,
        max_size=4,
    )
)


def all_sums(amounts):
    chosen = itertools.product(*map(range, map(len, amounts)))
    return np.array(
        [sum(table[i] for table, i in zip(amounts, row, strict=True)) for row in chosen]
    )


@settings(max_examples=60)
@given(AMOUNTS)
def test_the_front_is_that_of_all_sums(amounts):
    sums = all_sums(amounts)
    found = exact_front(amounts)
    assert found.values.tolist() == sums[non_dominated(sums)].tolist()


@settings(max_examples=60)
@given(AMOUNTS)
def test_its_choices_give_its_values(amounts):
    found = exact_front(amounts)
    for values, row in zip(found.values, found.choices, strict=True):
        parts = [table[i] for table, i in zip(amounts, row, strict=True)]
        assert sum(parts).tolist() == values.tolist()


def test_the_share_reached_is_one_with_the_whole_front_and_less_without_a_part_of_it():
    amounts = [np.array([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0]])]
    exact, reference = exact_front(amounts), np.array([4.0, 4.0])
    assert share_reached(exact.values, exact, reference) == pytest.approx(1.0)
    # By hand: the middle one dominates 9 cells, its neighbours one more each.
    assert share_reached(exact.values[1:2], exact, reference) == pytest.approx(9 / 11)
