import pytest

from edgekd.errors import InputError
from edgekd.runtime.sampler_names import ALIASES, sampler_class, with_sampler
from edgekd.runtime.scheduler_config import parse_config
from edgekd.runtime.scheduler_settings import SAMPLERS


def test_every_sampler_has_one_alias():
    assert sorted(ALIASES.values()) == sorted(SAMPLERS)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("pndm", "PNDMScheduler"),
        ("DPM++2M", "DPMSolverMultistepScheduler"),
        ("UniPCMultistepScheduler", "UniPCMultistepScheduler"),
        ("heundiscretescheduler", "HeunDiscreteScheduler"),
    ],
)
def test_names(given, name):
    assert sampler_class(given) == name


@pytest.mark.parametrize("given", ["", "LMSDiscreteScheduler", "dpm"])
def test_other_names_are_refused(given):
    with pytest.raises(InputError, match=f"must be one of ddim, .*UniPC.*, but got {given}$"):
        sampler_class(given)


def test_another_sampler_keeps_the_noise_schedule_and_clips_nothing():
    config = {"_class_name": "PNDMScheduler", "beta_end": 0.012, "skip_prk_steps": True}
    found = parse_config(with_sampler(config, "DDIMScheduler"))
    assert (found.name, found.beta_end, found.clip_sample) == ("DDIMScheduler", 0.012, False)
    assert with_sampler(config, "PNDMScheduler") == config


def test_zero_terminal_snr_is_never_dropped():
    config = {
        "_class_name": "DDIMScheduler",
        "rescale_betas_zero_snr": True,
        "prediction_type": "v_prediction",
    }
    assert parse_config(with_sampler(config, "UniPCMultistepScheduler")).rescale_betas_zero_snr
    for name in ("PNDMScheduler", "HeunDiscreteScheduler"):
        with pytest.raises(InputError, match=f"zero terminal SNR.*got {name}"):
            with_sampler(config, name)
