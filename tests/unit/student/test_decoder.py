"""Configs of narrow VAEs: what changes, what stays, what it costs."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from edgekd.errors import InputError
from edgekd.libraries import diffusers
from edgekd.reading import read_json
from edgekd.student.cost import vae_cost
from edgekd.student.decoder import decoder_share, narrow_vae_config
from edgekd.student.reference import ARCHITECTURES

SD15 = ARCHITECTURES["sd15"]["vae"]
CHANGED = {
    "block_out_channels",
    "norm_num_groups",
    "layers_per_block",
    "mid_block_add_attention",
}


@pytest.mark.parametrize(
    ("width", "layers", "widths", "groups", "kept_layers"),
    [
        (0.25, None, [32, 64, 128, 128], 8, 2),
        (0.5, 1, [64, 128, 256, 256], 16, 1),
        (1.0, None, [128, 256, 512, 512], 32, 2),
        (0.26, None, [32, 64, 128, 128], 8, 2),  # the nearest whole number of groups
    ],
)
def test_of_stable_diffusion(width, layers, widths, groups, kept_layers):
    config = narrow_vae_config({**SD15, "_name_or_path": "/a"}, width, layers)
    assert config["block_out_channels"] == widths
    assert config["norm_num_groups"] == groups
    assert config["layers_per_block"] == kept_layers
    assert config["mid_block_add_attention"] is False
    assert {k: v for k, v in config.items() if k not in CHANGED} == {
        k: v for k, v in SD15.items() if k not in CHANGED
    }


def test_the_latent_space_stays(starter_teacher):
    teacher = read_json(starter_teacher / "vae" / "config.json")
    config = narrow_vae_config({**teacher, "shift_factor": 0.1}, 0.5)
    assert config["block_out_channels"] == [16, 32, 48]
    for key in ("scaling_factor", "latent_channels", "force_upcast", "latents_mean"):
        assert config[key] == teacher[key]
    assert config["shift_factor"] == 0.1


@pytest.mark.parametrize("width", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("layers", [1, 2])
def test_macs_are_what_torch_counts(width, layers):
    config = narrow_vae_config(SD15, width, layers)
    assert vae_cost(config, (16, 24))[1].macs == _counted(config)
    share = decoder_share(config, SD15, (16, 24))
    assert share == pytest.approx(_counted(config) / _counted(SD15), abs=1e-12)


def _counted(config: dict[str, Any]) -> int:
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL.from_config(config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            vae.decode(torch.empty(1, 4, 16, 24))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("changes", "width", "layers", "rule"),
    [
        ({}, 0.01, None, "1 to 32 groups"),
        ({}, 1.1, None, "1 to 32 groups"),
        ({}, 0.5, 3, "1 to 2 residual blocks"),
        ({}, 0.5, 0, "1 to 2 residual blocks"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 4}, 0.5, None, "up_block_types"),
    ],
)
def test_what_is_refused(changes, width, layers, rule):
    with pytest.raises(InputError, match=rule):
        narrow_vae_config({**SD15, **changes}, width, layers)
