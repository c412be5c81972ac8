import numpy as np
import pytest
import scipy.stats

from edgekd.runtime.samplers.beta import beta_quantile


@pytest.mark.parametrize("shape", [0.6, 1.0, 2.5])
def test_quantiles_are_scipys(shape):
    shares = np.concatenate([np.linspace(0, 1, 103), [1e-9, 1e-4, 1 - 1e-9]])
    expected = scipy.stats.beta.ppf(shares, shape, shape)
    # Both are exact to a few units in the last place, of x or of 1 - x.
    np.testing.assert_allclose(beta_quantile(shares, shape), expected, rtol=1e-12, atol=1e-15)
