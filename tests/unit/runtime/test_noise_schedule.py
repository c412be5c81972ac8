import numpy as np
import pytest

from edgekd.libraries import diffusers
from edgekd.runtime.noise_schedule import alphas_cumprod
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.scheduler_settings import OBEYED, SAMPLERS


@pytest.mark.parametrize("count", [1000, 997])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_tables_are_torchs(name, schedule, zero_snr, count):
    config = {"beta_schedule": schedule, "num_train_timesteps": count}
    if zero_snr and "rescale_betas_zero_snr" in OBEYED[name]:
        config["rescale_betas_zero_snr"] = True
    expected = getattr(diffusers, name)(**config).alphas_cumprod.numpy()
    known = {"_class_name": name, "prediction_type": "v_prediction", **config}
    found = alphas_cumprod(parse_config(known))
    if zero_snr:
        # Some classes keep the last level off zero in this very table.
        found, expected = found[:-1], expected[:-1]
    # Bit for bit where torch's kernel multiplies and adds in one instruction, as all do that have
    # vectors; else, and in the roots of zero terminal SNR, the last bit may be another, and nearly
    # equal roots are subtracted from one another.
    np.testing.assert_allclose(found, expected, rtol=5e-5 if zero_snr else 1e-6)
