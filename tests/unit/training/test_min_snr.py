import pytest
import torch

from edgekd.diffusion.noise_schedule import build_scheduler, read_schedule
from edgekd.training.min_snr import min_snr_weights


def test_min_snr_formulas():
    snr = torch.tensor([0.25, 5.0, 20.0])
    assert min_snr_weights(snr, 5.0, "epsilon").tolist() == [1.0, 1.0, 0.25]
    expected = torch.tensor([0.25 / 1.25, 5.0 / 6.0, 5.0 / 21.0])
    assert torch.allclose(min_snr_weights(snr, 5.0, "v_prediction"), expected)


def test_noise_prediction_is_image_prediction_with_a_clamped_snr():
    """With weight w it is image prediction with weight w * SNR (Hang et al., equation 9)."""
    snr = read_schedule(build_scheduler()).snr(torch.arange(1000))
    torch.testing.assert_close(min_snr_weights(snr, 5.0, "epsilon") * snr, snr.clamp(max=5.0))


def test_min_snr_at_zero_snr_is_its_limit():
    zero = torch.zeros(1)
    assert min_snr_weights(zero, 5.0, "epsilon").item() == 1.0
    assert min_snr_weights(zero, 5.0, "v_prediction").item() == 0.0


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_no_gamma_weighs_all_alike(prediction_type):
    snr = torch.tensor([0.0, 1.0, 1e4])
    assert min_snr_weights(snr, None, prediction_type).tolist() == [1.0, 1.0, 1.0]
