import itertools

import numpy as np
import pytest
from fixtures.studies import AMOUNTS, DIMENSIONS, FULL, SCORING

from edgekd.search.front import loss_values
from edgekd.search.scoring import Memo
from edgekd.search.sweep import Sweep
from tools.search.knapsack import exact_front, share_reached


@pytest.fixture
def memo() -> Memo:
    return Memo(SCORING, lambda: None)


def test_it_finds_the_exact_front_of_an_additive_score(memo):
    sweep = Sweep(DIMENSIONS, memo, 0, [FULL])
    assert sweep.round(400) == 400
    for _ in range(3):
        sweep.round(400)
    exact = exact_front(list(AMOUNTS.values()))
    found = loss_values(sweep.points)
    # Amounts are of logarithms; sizes are counted in millionths there.
    found = np.column_stack([found[:, 0], -np.log(-found[:, 1]), found[:, 2] - np.log(1e6)])
    assert share_reached(found, exact, np.full(3, 4.0)) == pytest.approx(1.0, abs=1e-3)
    assert len(sweep.points) == len(exact.values)


def test_same_seed_same_front_another_seed_another_way(memo):
    def front(seed):
        sweep = Sweep(DIMENSIONS, memo, seed)
        sweep.round(20)
        return sweep.spread(100)

    assert front(1) == front(1)
    assert front(1) != front(2)


def test_what_it_starts_with_is_part_of_it(memo):
    sweep = Sweep(DIMENSIONS, memo, 0, [FULL])
    assert [setting for setting, _ in sweep.spread(9)] == [FULL]
    assert Sweep(DIMENSIONS, memo, 0).spread(9) == []


def test_a_spread_is_short_and_its_settings_are_those_of_its_points(memo):
    sweep = Sweep(DIMENSIONS, memo, 0, [FULL])
    sweep.round(300)
    spread = sweep.spread(8)
    assert len(spread) == 8 < len(sweep.points)
    assert all(memo(setting) == one for setting, one in spread)


def test_every_choice_is_drawn(memo):
    seen = set()

    def score(setting):
        seen.add(tuple(setting.values()))
        return memo(setting)

    Sweep(DIMENSIONS, score, 0, [FULL]).round(8000)
    assert seen == set(itertools.product(*DIMENSIONS.values()))
