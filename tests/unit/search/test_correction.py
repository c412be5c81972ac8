import numpy as np
import pytest

from edgekd.search.correction import FITS, choose, fit_linear, held_out


def drawn(count=40, seed=0):
    """Rows of features: the sum of two kinds first."""
    draws = np.random.default_rng(seed)
    kinds = draws.uniform(2, 20, (count, 2))
    return np.column_stack([kinds.sum(axis=1), kinds])


def noisy(times, share=0.01):
    return times * np.exp(np.random.default_rng(1).normal(0, share, len(times)))


def test_a_straight_line_is_found_again():
    rows = drawn()
    correction = fit_linear(rows, 1.5 + 1.2 * rows[:, 0])
    assert np.allclose(correction(drawn(seed=3)), 1.5 + 1.2 * drawn(seed=3)[:, 0])


def test_kinds_that_weigh_differently_are_seen():
    rows = drawn()
    chosen = choose(rows, noisy(0.5 + 2.0 * rows[:, 1] + 0.7 * rows[:, 2]))
    assert chosen.form == "linear by kind"


def test_a_curve_is_left_to_a_regressor():
    rows = drawn(60)
    times = noisy(rows[:, 0] * (1 + 0.3 * np.sin(rows[:, 1] / 2.5)), 0.005)
    chosen = choose(rows, times)
    assert chosen.form in ("gaussian process", "boosted trees")
    told = chosen.correction(rows)
    linear = fit_linear(rows, times)(rows)
    assert np.abs(told / times - 1).mean() < np.abs(linear / times - 1).mean() / 2


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_graphs_give_a_scale_and_no_error(count):
    rows = drawn(count)
    chosen = choose(rows, 1.3 * rows[:, 0])
    assert chosen.form == "scale"
    assert len(chosen.held_out) == 0
    assert np.allclose(chosen.correction(drawn(3)), (1.3 if count else 1.0) * drawn(3)[:, 0])


@pytest.mark.parametrize("form", FITS)
def test_a_graph_does_not_tell_its_own_time(form):
    """A time that no other graph has a hint of must be missed."""
    rows = drawn(30)
    times = 1.2 * rows[:, 0]
    times[7] *= 3
    assert held_out(FITS[form], rows, times)[7] < 0.7 * times[7]
