import numpy as np
import pytest
from scipy.stats import linregress

from edgekd.errors import InputError
from edgekd.measure.power_law import fit_power_law


@pytest.mark.parametrize("exponent", [-1.0, 0.5, 1.0, 2.0])
def test_an_exact_power_law_is_found(exponent):
    values = [1, 2, 4, 8]
    law = fit_power_law(values, [3 * value**exponent for value in values])
    assert (law.exponent, law.factor, law.r_squared) == pytest.approx((exponent, 3, 1))


def test_a_constant_has_exponent_0_and_leaves_nothing_to_explain():
    law = fit_power_law([1, 2, 4], [1234.567] * 3)
    assert law.exponent == pytest.approx(0, abs=1e-12)
    assert law.r_squared == 1


def test_it_agrees_with_scipy_on_noisy_costs():
    random = np.random.default_rng(0)
    values = np.arange(1, 30)
    costs = 5 * values**1.3 * np.exp(random.normal(0, 0.3, len(values)))
    law = fit_power_law(list(values), list(costs))
    theirs = linregress(np.log(values), np.log(costs))
    assert law.exponent == pytest.approx(theirs.slope, rel=1e-10)
    assert law.factor == pytest.approx(np.exp(theirs.intercept), rel=1e-10)
    assert law.r_squared == pytest.approx(theirs.rvalue**2, rel=1e-10)


@pytest.mark.parametrize(
    ("values", "costs"),
    [([1], [1.0]), ([2, 2], [1.0, 2.0]), ([0, 1], [1.0, 2.0]), ([1, 2], [0, 1])],
)
def test_what_has_no_slope_is_refused(values, costs):
    with pytest.raises(InputError, match="two different values"):
        fit_power_law(values, costs)
