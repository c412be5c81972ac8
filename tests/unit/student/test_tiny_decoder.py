"""First weights of an `AutoencoderTiny`."""

import torch

from edgekd.student.decoder import tiny_vae_config
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.tiny_decoder import build_tiny_vae


def test_weights_follow_from_the_seed_alone():
    config = tiny_vae_config(ARCHITECTURES["sd15"]["vae"], 0.125)
    before = torch.get_rng_state()
    one, again, other = (build_tiny_vae(config, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], again[name]) for name in one)
    name = "decoder.layers.0.weight"
    assert not torch.equal(one[name], other[name])
